// Package vm runs virtual machines that share a disk and have a watchdog, and breaks them.
//
// Build makes the guest from the Debian packages that are installed and a kernel package that is only
// unpacked; New and Rig.Start run machines of it under QEMU. A Machine runs commands, loses its power, freezes,
// loses its disk. Everything that happens is a Line in the rig's Log, stamped by the host's clock when the host
// sees it, so that what two machines did can be set side by side. No root, no KVM and no network are needed.
//
// The machines' disks are files of the host, opened through the host's page cache: that is what makes the
// machines agree about a sector. QEMU with cache=none must not be used on them: it learns the alignment that
// the file needs by reading block 0, and where that is a hole it believes in 4096 bytes and makes of a write of
// 512 a read and a write of 4096, by which two machines lose each other's sectors. The page cache also survives
// the death of a QEMU, as a disk survives its host.
package vm
