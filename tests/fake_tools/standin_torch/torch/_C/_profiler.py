import os


class _ExperimentalConfig:
    if os.environ.get("STANDIN_OLD"):

        def __init__(self):
            self.profile_all_threads = False
    else:

        def __init__(self, profile_all_threads=False):
            self.profile_all_threads = profile_all_threads
