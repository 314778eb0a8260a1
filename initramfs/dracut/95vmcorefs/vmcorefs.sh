#!/bin/sh
# installed by vmcorefs capture install
#
# A hook of dracut (dracut.bootup(7)), sourced before the root file system is mounted: saves the
# crashed kernel's memory, and ends this system. In a boot that is not for that, nothing.
case " $(cat /proc/cmdline) " in
  *' vmcorefs=initramfs '*) /usr/lib/vmcorefs/run ;;
esac
