import os

cuda = None
hip = "7.0" if os.environ.get("STANDIN_GPU") else None
