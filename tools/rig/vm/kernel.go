package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// modules are what a guest may want to load; what they depend on comes along.
var modules = []string{
	"virtio_pci", "virtio_blk", "virtio_console", "virtio_scsi", "sd_mod", "sg", "softdog", "i6300esb", "loop",
	"dm-mod", "dm-flakey", "dm-delay", "dm-thin-pool", "dm-snapshot", "dm-raid", "dm-zero", "scsi_debug",
	"dm-mirror", "dm-cache", "dm-cache-smq", "dm-writecache", "raid1", "dlm", "configfs", "virtio_net",
}

// kernel is an unpacked kernel: a directory with vmlinux and lib/modules/VERSION.
type kernel struct{ dir, version string }

// kernelPrefix changes with the modules, so that a kernel which lacks some is not taken from the cache.
const kernelPrefix = "vmlinux-"

// findKernel returns the newest kernel in the cache, or fetches the one that Debian's linux-image-amd64 names.
func findKernel(ctx context.Context, cache string) (kernel, error) {
	cached, err := filepath.Glob(filepath.Join(cache, kernelPrefix+"*"))
	if err != nil {
		return kernel{}, err
	}
	if len(cached) > 0 {
		dir := cached[len(cached)-1]
		return kernel{dir, strings.TrimPrefix(filepath.Base(dir), kernelPrefix)}, nil
	}
	return fetchKernel(ctx, cache)
}

// fetchKernel downloads a kernel package with apt-get, which asks for no root, and keeps what guests need.
func fetchKernel(ctx context.Context, cache string) (kernel, error) {
	work, err := os.MkdirTemp(cache, fetchPrefix)
	if err != nil {
		return kernel{}, err
	}
	defer os.RemoveAll(work)
	about, err := tool(ctx, work, "apt-cache", "show", "--no-all-versions", "linux-image-amd64")
	if err != nil {
		return kernel{}, err
	}
	_, depends, _ := strings.Cut(about, "\nDepends: ")
	name, _, ok := strings.Cut(depends, " ")
	if !ok {
		return kernel{}, errors.New("apt-cache: linux-image-amd64 depends on no kernel (run apt-get update)")
	}
	if _, err := tool(ctx, work, "apt-get", "download", name); err != nil {
		return kernel{}, err
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return kernel{}, fmt.Errorf("apt-get download %s left %d packages (%w)", name, len(debs), err)
	}
	unpacked := filepath.Join(work, "unpacked")
	if _, err := tool(ctx, work, "dpkg-deb", "--extract", debs[0], unpacked); err != nil {
		return kernel{}, err
	}
	version := strings.TrimPrefix(name, "linux-image-")
	kept := filepath.Join(work, "kept")
	if err := keep(ctx, unpacked, kept, version); err != nil {
		return kernel{}, err
	}
	k := kernel{filepath.Join(cache, kernelPrefix+version), version}
	return k, os.Rename(kept, k.dir)
}

// keep copies the kernel itself, expanded, and the modules for guests.
func keep(ctx context.Context, unpacked, kept, version string) error {
	if _, err := tool(ctx, unpacked, "depmod", "-b", unpacked, version); err != nil {
		return err
	}
	for _, m := range modules {
		list, err := tool(ctx, unpacked, "modprobe", "-d", unpacked, "-S", version, "--show-depends", m)
		if err != nil {
			return err
		}
		for line := range strings.Lines(list) {
			fields := strings.Fields(line) // "insmod PATH" or "builtin NAME"
			if len(fields) < 2 || fields[0] != "insmod" {
				continue
			}
			to := filepath.Join(kept, strings.TrimPrefix(fields[1], unpacked))
			if err := copyFile(fields[1], to); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		path := filepath.Join("lib/modules", version, name)
		if err := copyFile(filepath.Join(unpacked, path), filepath.Join(kept, path)); err != nil {
			return err
		}
	}
	if _, err := tool(ctx, kept, "depmod", "-b", kept, version); err != nil {
		return err
	}
	compressed, err := os.ReadFile(filepath.Join(unpacked, "boot", "vmlinuz-"+version))
	if err != nil {
		return err
	}
	plain, err := expand(ctx, compressed)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(kept, "vmlinux"), plain, 0o644) //nolint:gosec // as Debian's
}

// expand takes the ELF kernel out of a bzImage. QEMU starts it directly (PVH); a guest that expanded it would
// need 3 s more to boot. Offsets are those of Linux's x86 boot protocol, 2.08 and later.
func expand(ctx context.Context, image []byte) ([]byte, error) {
	const setupSectors, payloadOffset, payloadLength, headerEnd, sector = 0x1f1, 0x248, 0x24c, 0x250, 512
	if len(image) < headerEnd {
		return nil, errors.New("kernel: too short for a bzImage")
	}
	start := (int(image[setupSectors])+1)*sector + int(binary.LittleEndian.Uint32(image[payloadOffset:]))
	end := start + int(binary.LittleEndian.Uint32(image[payloadLength:])) - 4 // its last word is the plain size
	if end > len(image) || start > end {
		return nil, errors.New("kernel: the payload lies outside of the image")
	}
	xz := exec.CommandContext(ctx, "xz", "--decompress", "--stdout")
	xz.Stdin = bytes.NewReader(image[start:end])
	plain, err := xz.Output()
	if err != nil {
		return nil, fmt.Errorf("expand the kernel: xz: %w", err)
	}
	if !bytes.HasPrefix(plain, []byte("\x7fELF")) {
		return nil, errors.New("expand the kernel: what was in it is no ELF program")
	}
	return plain, nil
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644) //nolint:gosec // a kernel module
}

// tool runs a program and returns its standard output; the error has what it said.
func tool(ctx context.Context, dir, name string, args ...string) (string, error) {
	for _, sbin := range []string{"/usr/sbin", "/sbin"} { // which a user's PATH may lack
		if _, err := exec.LookPath(name); err != nil {
			if path, err := exec.LookPath(filepath.Join(sbin, name)); err == nil {
				name = path
			}
		}
	}
	program := exec.CommandContext(ctx, name, args...)
	program.Dir = dir
	out, err := program.Output()
	if err != nil {
		said := ""
		if ended, ok := errors.AsType[*exec.ExitError](err); ok {
			said = ": " + strings.TrimSpace(string(ended.Stderr))
		}
		return "", fmt.Errorf("%s %s: %w%s", name, strings.Join(args, " "), err, said)
	}
	return string(out), nil
}
