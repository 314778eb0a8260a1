"""The saved state of a virtual machine of VMware: .vmss and .vmsn."""
