package vm

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// libraryDirs is where Debian keeps shared libraries.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64"}

// loaded are libraries that programs open while they run, so that no program's header names them. Without the
// first, glibc cannot end a thread; the second reads /etc/passwd for older glibcs.
var loaded = []string{"libgcc_s.so.1", "libnss_files.so.2"}

// program puts a host's program into the archive, with its loader and all libraries it needs.
func (a archive) program(host, guest string) error {
	content, err := os.ReadFile(host)
	if err != nil {
		return fmt.Errorf("program for the guest: %w", err)
	}
	a.file(guest, 0o755, content)
	f, err := elf.Open(host)
	if err != nil {
		return nil //nolint:nilerr // a script has no libraries
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("libraries of %s: %w", host, err)
	}
	if len(needed) == 0 {
		return nil
	}
	for _, section := range f.Progs {
		if section.Type != elf.PT_INTERP {
			continue
		}
		loader := make([]byte, section.Filesz-1)
		if _, err := section.ReadAt(loader, 0); err != nil {
			return fmt.Errorf("loader of %s: %w", host, err)
		}
		if content, err = os.ReadFile(string(loader)); err != nil {
			return err
		}
		a.file(string(loader), 0o755, content)
	}
	return a.libraries(needed)
}

func (a archive) libraries(names []string) error {
	for _, name := range names {
		var path string
		var content []byte
		err := os.ErrNotExist
		for i := 0; i < len(libraryDirs) && errors.Is(err, os.ErrNotExist); i++ {
			path = filepath.Join(libraryDirs[i], name)
			content, err = os.ReadFile(path)
		}
		if err != nil {
			return fmt.Errorf("shared library %s: %w", name, err)
		}
		guest := filepath.Join("/usr/lib/x86_64-linux-gnu", name)
		if _, ok := a[guest]; ok {
			continue
		}
		a.file(guest, 0o755, content)
		f, err := elf.Open(path)
		if err != nil {
			return fmt.Errorf("shared library %s: %w", path, err)
		}
		needed, err := f.ImportedLibraries()
		f.Close()
		if err != nil {
			return fmt.Errorf("shared library %s: %w", path, err)
		}
		if err := a.libraries(needed); err != nil {
			return err
		}
	}
	return nil
}
