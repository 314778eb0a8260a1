"""What tests are given: machines, kernels, dumps and tables, made by hand."""
