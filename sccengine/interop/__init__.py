"""Taking results elsewhere and bringing them in: other programs' arrays, weights and models.

    dlpack        memory shared with PyTorch, CuPy and others           needs nothing
    safetensors   weights in PyTorch's names, both ways                 needs nothing
    onnx          whole models in standard operators                    needs the extra "onnx"
    convert       a trained pointwise model made a sliding-channel one  needs nothing

Import the file that you need: ``from sccengine.interop import onnx``.
"""
