package memdisk_test

import (
	"bytes"
	"testing"

	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/memdisk"
)

func TestHostsShareSectors(t *testing.T) {
	disk := memdisk.New(memdisk.Config{SectorSize: 512, Size: 4 << 20})
	a, b := disk.Open("a"), disk.Open("b")
	defer a.Close()
	defer b.Close()
	buf := device.NewBuffer(1024)
	copy(buf.Bytes(), "from a")
	if err := a.Write(t.Context(), 1<<20-512, buf); err != nil {
		t.Fatal(err)
	}
	got, err := b.Read(t.Context(), 1<<20-512, 1024)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Release()
	if want := disk.Bytes(1<<20-512, 1024); !bytes.Equal(got.Bytes(), want) || string(want[:6]) != "from a" {
		t.Errorf("b reads %q, the disk holds %q", got.Bytes()[:8], want[:8])
	}
}
