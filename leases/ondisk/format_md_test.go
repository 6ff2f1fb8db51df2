package ondisk

import (
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// fieldNames gives the struct field for each field name of FORMAT.md that is not the same without case and
// underscores.
var fieldNames = map[string]string{
	"Leader.owner_id":            "OwnerID",
	"HostBlock.mode_flags":       "Mode.Flags",
	"HostBlock.mode_generation":  "Mode.Generation",
	"IndexHeader.rx_offset":      "Offset",
	"IndexHeader.lockspace_name": "Space",
	"IndexEntry.res_offset":      "Offset",
}

// TestFormatMD encodes records in which a single field has all bits set, and looks where the bits come out.
func TestFormatMD(t *testing.T) {
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]struct {
		zero   any
		encode func(any, []byte)
	}{
		"Leader":      {&Leader{}, func(r any, p []byte) { r.(*Leader).EncodeRaw(p) }},
		"Request":     {&Request{}, func(r any, p []byte) { r.(*Request).Encode(p) }},
		"HostBlock":   {&HostBlock{}, func(r any, p []byte) { r.(*HostBlock).EncodeRaw(p) }},
		"IndexHeader": {&IndexHeader{}, func(r any, p []byte) { r.(*IndexHeader).Encode(p) }},
		"IndexEntry":  {&IndexEntry{}, func(r any, p []byte) { r.(*IndexEntry).Encode(p) }},
	}
	row := regexp.MustCompile(`^\| (\d+) \| (\d+) \| (\w+) \|`)
	seen := map[string]int{}
	var record string
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "<!-- record: "); ok {
			record = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(name), "-->"))
		}
		if strings.HasPrefix(line, "#") {
			record = ""
		}
		m := row.FindStringSubmatch(line)
		if record == "" || m == nil {
			continue
		}
		offset, _ := strconv.Atoi(m[1])
		size, _ := strconv.Atoi(m[2])
		value := reflect.New(reflect.TypeOf(records[record].zero).Elem())
		fill(fieldOf(t, value.Elem(), record, m[3]))
		var got [4096]byte
		records[record].encode(value.Interface(), got[:])
		for i, b := range got {
			if inside := i >= offset && i < offset+size; inside != (b != 0) {
				t.Errorf("%s.%s: byte %d is %#x, but FORMAT.md says offset %d size %d", record, m[3], i, b, offset, size)
				break
			}
		}
		seen[record]++
	}
	for name, r := range records {
		if got, want := seen[name], leaves(reflect.TypeOf(r.zero).Elem()); got != want {
			t.Errorf("%s: FORMAT.md has %d fields, the record has %d", name, got, want)
		}
	}
}

func fieldOf(t *testing.T, v reflect.Value, record, name string) reflect.Value {
	t.Helper()
	path, ok := fieldNames[record+"."+name]
	if !ok {
		path = name
	}
	for part := range strings.SplitSeq(path, ".") {
		part = strings.ReplaceAll(part, "_", "")
		v = v.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, part) })
		if !v.IsValid() {
			t.Fatalf("%s has no field for FORMAT.md's %s", record, name)
		}
	}
	return v
}

func fill(v reflect.Value) {
	if v.Kind() == reflect.Array {
		for i := range v.Len() {
			v.Index(i).SetUint(0xff)
		}
		return
	}
	v.SetUint(1<<(8*v.Type().Size()) - 1)
}

// leaves counts the fields of a record that are not records themselves.
func leaves(t reflect.Type) int {
	n := 0
	for f := range t.Fields() {
		if f.Type.Kind() == reflect.Struct {
			n += leaves(f.Type)
		} else {
			n++
		}
	}
	return n
}
