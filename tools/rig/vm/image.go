package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Image is what machines boot from.
type Image struct{ Kernel, Initrd string } // paths

// Guest says what Build puts into an image beyond the kernel, busybox and the rig's agent.
type Guest struct {
	Cache string            // directory for kernels and images; "": the user's cache directory
	Files map[string]string // path in the guest → file of this machine; a program's libraries come along
	Links map[string]string // path in the guest → what it points to
	Built map[string]string // path in the guest → import path of a program of this module
}

// agentPackage is compiled into every image: the first process of the guest, its agent, and what plays for tests.
const agentPackage = "github.com/tenurelock/tenure/tools/rig/guest"

// Build makes an image, or finds in the cache one with the same content. It needs go, busybox-static, kmod,
// dpkg, xz-utils and, once, apt-get and the network for the kernel; it needs no root.
func Build(ctx context.Context, g Guest) (Image, error) {
	if g.Cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return Image{}, fmt.Errorf("build a guest: %w", err)
		}
		g.Cache = filepath.Join(base, "tenure-rig")
	}
	image, err := g.build(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("build a guest in %s: %w", g.Cache, err)
	}
	return image, nil
}

func (g Guest) build(ctx context.Context) (Image, error) {
	if err := os.MkdirAll(g.Cache, 0o755); err != nil { //nolint:gosec // nothing secret
		return Image{}, err
	}
	cache, err := os.Open(g.Cache)
	if err != nil {
		return Image{}, err
	}
	defer cache.Close()
	if err := unix.Flock(int(cache.Fd()), unix.LOCK_EX); err != nil {
		return Image{}, fmt.Errorf("lock the cache: %w", err)
	}
	if err := removeLeftovers(g.Cache); err != nil {
		return Image{}, err
	}
	k, err := findKernel(ctx, g.Cache)
	if err != nil {
		return Image{}, err
	}
	tree := archive{}
	if err := errors.Join(tree.base(), tree.kernelModules(k), tree.compiled(ctx, "/init", agentPackage)); err != nil {
		return Image{}, err
	}
	tree.link("/usr/bin/holder", "/init")
	tree.link("/usr/bin/renewals", "/init")
	for guest, importPath := range g.Built {
		if err := tree.compiled(ctx, guest, importPath); err != nil {
			return Image{}, err
		}
	}
	for guest, host := range g.Files {
		if err := tree.program(host, guest); err != nil {
			return Image{}, err
		}
	}
	for name, target := range g.Links {
		tree.link(name, target)
	}
	if err := tree.libraries(present(loaded)); err != nil {
		return Image{}, err
	}
	image := Image{filepath.Join(k.dir, "vmlinux"), filepath.Join(g.Cache, imagePrefix+tree.sum())}
	if _, err := os.Stat(image.Initrd); err == nil {
		now := time.Now()
		return image, os.Chtimes(image.Initrd, now, now) // the one used last is dropped last
	}
	return image, tree.save(g.Cache, image.Initrd)
}

// What is being made in the cache has these prefixes until it is whole.
const (
	fetchPrefix = "fetch-"
	newPrefix   = "new-"
)

// removeLeftovers removes what a Build that was killed left behind. The cache is locked.
func removeLeftovers(cache string) error {
	for _, prefix := range []string{fetchPrefix, newPrefix} {
		left, err := filepath.Glob(filepath.Join(cache, prefix+"*"))
		if err != nil {
			return err
		}
		for _, path := range left {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// imagesKept is how many images stay in the cache: a rig may still boot from one that is not the newest.
const imagesKept = 8

const imagePrefix = "initrd-"

// save writes the archive under its name at once, and drops the oldest beyond imagesKept.
func (a archive) save(cache, name string) error {
	f, err := os.CreateTemp(cache, newPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(a.write(f), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	images, err := filepath.Glob(filepath.Join(cache, imagePrefix+"*"))
	if err != nil || len(images) <= imagesKept {
		return err
	}
	written := map[string]time.Time{}
	for _, image := range images {
		about, err := os.Stat(image)
		if err != nil {
			return err
		}
		written[image] = about.ModTime()
	}
	slices.SortFunc(images, func(a, b string) int { return written[a].Compare(written[b]) })
	for _, image := range images[:len(images)-imagesKept] {
		if err := os.Remove(image); err != nil {
			return err
		}
	}
	return nil
}

// present are those libraries that this machine has.
func present(names []string) []string {
	var out []string
	for _, n := range names {
		for _, dir := range libraryDirs {
			if _, err := os.Stat(filepath.Join(dir, n)); err == nil {
				out = append(out, n)
				break
			}
		}
	}
	return out
}

// base is the tree of a small Debian: busybox, users, directories. /usr is merged.
func (a archive) base() error {
	for _, d := range []string{
		"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/etc/sanlock", "/etc/wdmd.d", "/proc", "/sys", "/dev",
		"/run/wdmd", "/run/lock", "/run/lvm", "/tmp", "/var/log", "/var/lib", "/root", "/mnt",
	} {
		a.dir(d)
	}
	a["/run/sanlock"] = entry{mode: modeDir | 0o777}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		a.link("/"+d, "usr/"+d)
	}
	a.link("/var/run", "../run")
	a.link("/var/lock", "../run/lock")
	a.file("/etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nsanlock:x:104:108::/run/sanlock:/bin/false\n"))
	a.file("/etc/group", 0o644, []byte("root:x:0:\ndisk:x:6:sanlock\nsanlock:x:108:\n"))
	a.file("/etc/nsswitch.conf", 0o644, []byte("passwd: files\ngroup: files\nhosts: files\n"))
	a.file("/etc/hosts", 0o644, []byte("127.0.0.1 localhost\n"))
	a.file("/etc/sanlock/sanlock.conf", 0o644, nil)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w (install busybox-static)", err)
	}
	if err := a.program(busybox, "/usr/bin/busybox"); err != nil {
		return err
	}
	if _, dynamic := a["/usr/lib64/ld-linux-x86-64.so.2"]; dynamic {
		return fmt.Errorf("%s is not static (install busybox-static)", busybox)
	}
	applets, err := exec.Command(busybox, "--list-full").Output()
	if err != nil {
		return fmt.Errorf("applets of busybox: %w", err)
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		dir := "/usr/bin/"
		if strings.Contains("/"+filepath.Dir(applet), "/sbin") {
			dir = "/usr/sbin/"
		}
		if name := dir + filepath.Base(applet); name != "/usr/bin/busybox" {
			a.link(name, "/usr/bin/busybox")
		}
	}
	return nil
}

func (a archive) kernelModules(k kernel) error {
	root := filepath.Join(k.dir, "lib/modules")
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil {
			a.file("/usr/lib/modules"+strings.TrimPrefix(path, root), 0o644, content)
		}
		return err
	})
}

// compiled puts a static program of this module into the archive. The same source makes the same bytes.
func (a archive) compiled(ctx context.Context, guest, importPath string) error {
	dir, err := os.MkdirTemp("", "rig-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "program")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=",
		"-o", program, importPath)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w (the working directory must lie in the module)\n%s", importPath, err, out)
	}
	content, err := os.ReadFile(program)
	if err == nil {
		a.file(guest, 0o755, content)
	}
	return err
}
