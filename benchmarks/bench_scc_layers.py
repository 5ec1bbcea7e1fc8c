"""The sliding-channel layers of VGG16, ResNet18 and MobileNet against PyTorch's ways to write them.

python benchmarks/bench_scc_layers.py [--device cuda] [--list] [--axis N=1024] [--axis pass=forward] [--json FILE]
"""

import sys

import peers
from bench_scc import candidates

if __name__ == "__main__":
    sys.exit(peers.main("scc_layers", candidates))
