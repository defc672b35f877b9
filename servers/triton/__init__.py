"""NVIDIA Triton as a server to compare with: its environment, its model repository, its process."""
