from torch.autograd import profiler


def _add_metadata_json(key, value):
    profiler.metadata[key] = value
