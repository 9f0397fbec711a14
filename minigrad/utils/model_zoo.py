"""torch.utils.model_zoo: `hub`'s download, under its old name."""

from ..hub import load_state_dict_from_url

load_url = load_state_dict_from_url
