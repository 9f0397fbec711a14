"""Small colour images: the network of the beginners' tutorials, with augmentation and SGD."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
import torchvision
import torchvision.transforms as transforms


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.bn = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.bn(self.conv1(x))))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(-1, 16 * 5 * 5)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


parser = argparse.ArgumentParser()
parser.add_argument("--data", default="data")
parser.add_argument("--fake", action="store_true", help="an image folder in place of CIFAR-10")
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--augment", action="store_true")
parser.add_argument("--double", action="store_true", help="in double precision")
parser.add_argument("--save-initial")
parser.add_argument("--load-initial")
args = parser.parse_args()
if args.double:
    torch.set_default_dtype(torch.float64)

normalize = transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
augmentation = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
transform = transforms.Compose(
    (augmentation if args.augment else [transforms.Resize(32)]) + [transforms.ToTensor(), normalize]
)
if args.fake:
    trainset = torchvision.datasets.ImageFolder(args.data, transform=transform)
else:
    trainset = torchvision.datasets.CIFAR10(
        args.data, train=True, download=True, transform=transform
    )
trainloader = torch.utils.data.DataLoader(
    trainset, batch_size=args.batch_size, shuffle=args.augment, num_workers=0
)

net = Net()
if args.save_initial:
    torch.save({"net": net.state_dict()}, args.save_initial)
if args.load_initial:
    net.load_state_dict(torch.load(args.load_initial)["net"])
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)

step = 0
running_loss = 0.0
while step < args.steps:
    for inputs, labels in trainloader:
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        running_loss += loss.item()
        print(f"step {step} loss {loss.item():.12f}")
        step += 1
        if step == args.steps:
            break

net.eval()
with torch.no_grad():
    outputs = net(inputs)
    _, predicted = torch.max(outputs.data, 1)
    print(f"loss {running_loss / step:.12f} correct {(predicted == labels).sum().item()}")
