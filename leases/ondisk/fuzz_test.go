package ondisk

import (
	"bytes"
	"os"
	"testing"

	"github.com/tenurelock/tenure/leases"
)

// Each fuzz target decodes any bytes, must not panic, and must get the same bytes back, less those that the
// record does not define. Seeds are sectors that stock has written, and testdata/fuzz.

func seed(f *testing.F, offset int, files ...string) {
	f.Helper()
	for _, file := range files {
		p, err := os.ReadFile(goldenDir + "/" + file + ".bin")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p[offset:min(offset+512, len(p))])
	}
	f.Add([]byte{})
}

// compare sets what encode makes beside the bytes that were decoded.
func compare(t *testing.T, in []byte, size int, undefined [][2]int, encode func(p []byte)) {
	t.Helper()
	got := make([]byte, size)
	encode(got)
	want := without(in[:size], undefined)
	if !bytes.Equal(got, want) {
		t.Errorf("decode and encode changed the record:\n got %x\nwant %x", got, want)
	}
}

func FuzzDecodeLeader(f *testing.F) {
	seed(f, 0, "d05-delta-bitmap-512", "d07-delta-shortname-512", "p02-paxos-owned-ex-512", "k8-paxos-ex-4k-8M")
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := DecodeLeader(in)
		if (err != nil) != (len(in) < LeaderSize) {
			t.Fatalf("%d bytes: %v", len(in), err)
		}
		_, _, _ = l.CheckDelta(leases.NameOf("LS1")), l.CheckPaxos(leases.Name{}, leases.Name{}, 1), l.CheckSane()
		if err == nil {
			compare(t, in, LeaderSize, nil, l.EncodeRaw)
		}
		BitmapHosts(in)
	})
}

func FuzzDecodeHostBlock(f *testing.F) {
	seed(f, 1024, "p02-paxos-owned-ex-512", "p07-paxos-sh-released-512", "p18-dblock-phase1-512")
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := DecodeHostBlock(in)
		if (err != nil) != (len(in) < HostBlockSize) {
			t.Fatalf("%d bytes: %v", len(in), err)
		}
		_ = b.Check()
		if err == nil {
			compare(t, in, HostBlockSize, undefinedInBlock, b.EncodeRaw)
		}
	})
}

func FuzzDecodeRequest(f *testing.F) {
	seed(f, 512, "p01-paxos-free-512", "p10-paxos-request-512")
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := DecodeRequest(in)
		if (err != nil) != (len(in) < RequestSize) {
			t.Fatalf("%d bytes: %v", len(in), err)
		}
		_ = r.Check()
		if err == nil {
			compare(t, in, RequestSize, undefinedInRequest, r.Encode)
		}
	})
}

func FuzzDecodeIndexHeader(f *testing.F) {
	seed(f, 0, "r03-rindex-entries-512", "k2-rindex-4k-2M")
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := DecodeIndexHeader(in)
		if (err != nil) != (len(in) < IndexHeaderSize) {
			t.Fatalf("%d bytes: %v", len(in), err)
		}
		_, _ = h.Check(leases.NameOf("LS1"), 16*MiB), h.Entries()
		if err == nil {
			compare(t, in, IndexHeaderSize, nil, h.Encode)
		}
	})
}

func FuzzDecodeIndexEntry(f *testing.F) {
	seed(f, 512, "r03-rindex-entries-512")
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := DecodeIndexEntry(in)
		if (err != nil) != (len(in) < IndexEntrySize) {
			t.Fatalf("%d bytes: %v", len(in), err)
		}
		_ = e.IsFree()
		if err == nil {
			compare(t, in, IndexEntrySize, nil, e.Encode)
		}
	})
}
