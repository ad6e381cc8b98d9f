# Empty on purpose: the original registers operators of a CUDA library that a CPU build of torch cannot load.
