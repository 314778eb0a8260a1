"""The first bytes of the formats that say themselves which memory they hold.

They are apart from what reads those formats: whoever tells them apart needs none of that.
"""

from __future__ import annotations

import struct
from typing import Final

FLATTENED: Final = b"makedumpfile\0\0\0\0"
KDUMP: Final = b"KDUMP   "
LIBVIRT: Final = b"LibvirtQemudSave"
LIBVIRT_PARTIAL: Final = b"LibvirtQemudPart"
"""Of a file that is not complete yet."""
LIME: Final = b"EMiL\1\0\0\0"
AVML: Final = b"AVML\2\0\0\0"
QEMU: Final = b"QEVM\0\0\0\3"
SADUMP: Final = b"sadump\0\0"
S390: Final = struct.pack(">Q", 0xA8190173618F23FD)
S390_EXTENDED: Final = struct.pack(">Q", 0xA8190173618F23FE)
LKCD: Final = (
    struct.pack("<Q", 0xA8190173618F23ED),
    struct.pack(">Q", 0xA8190173618F23ED),
)
VMWARE_PARTIAL: Final = 0xBED3BED3
VMWARE: Final = tuple(
    struct.pack("<I", number)
    for number in (0xBED2BED0, 0xBED2BED2, VMWARE_PARTIAL, 0xBAD1BAD1, 0xBAD2BAD2)
)
"""Those of 64 bits; 0xbed0bed0 is the format of before."""
