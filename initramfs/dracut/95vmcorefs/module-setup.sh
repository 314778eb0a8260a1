#!/bin/bash
# installed by vmcorefs capture install
#
# A module of dracut (dracut.modules(7)): puts vmcorefs into the initramfs that
# "vmcorefs capture initramfs" asks for, and into no other.

check() {
  return 255 # only when another module, or --add, asks for it
}

depends() {
  echo base udev-rules fs-lib kernel-modules
}

installkernel() {
  # shellcheck disable=SC2086 # a list of words
  hostonly='' instmods fuse ${VMCOREFS_MODULES-}
}

install() {
  inst_multiple modprobe sync
  # shellcheck disable=SC2154 # dracut's own
  "$VMCOREFS" capture bundle --config "$VMCOREFS_CONFIG" "$initdir" || return 1
  # shellcheck disable=SC2154
  inst_hook pre-mount 05 "$moddir/vmcorefs.sh"
}
