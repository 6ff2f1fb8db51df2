package sanlockd

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tenurelock/tenure/daemon/config"
)

func TestSetQueue(t *testing.T) {
	for _, c := range []struct {
		name           string
		hardware, file string
		kb, want       int
		left           string
	}{
		{"more", "2048\n", "512\n", 1024, 1024, "1024"},
		{"it is so already", "2048\n", "1024\n", 1024, 1024, "1024\n"},
		{"the hardware does less", "1280\n", "512\n", 8192, 1024, "1024"},
		{"the hardware does much less", "256\n", "128\n", 1024, 0, "128\n"},
		{"no number", "many\n", "128\n", 1024, 0, "128\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "max_sectors_kb")
			hardware := filepath.Join(dir, "max_hw_sectors_kb")
			for path, text := range map[string]string{file: c.file, hardware: c.hardware} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := setQueue(dir, c.kb)
			left, err := os.ReadFile(file)
			if got != c.want || string(left) != c.left || err != nil {
				t.Errorf("%d, file %q, %v; want %d and %q", got, left, err, c.want, c.left)
			}
		})
	}
	if got := setMaxSectors(t.TempDir(), "/dev/null", config.MaxSectors{KB: 1024}, 1<<20); got != 0 {
		t.Errorf("a device that is no disk: %d", got)
	}
}
