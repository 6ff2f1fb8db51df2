package lvmwire

import (
	"strings"
	"testing"
)

// TestBothSpellings is trap T1: the blank stands before "=" in most requests, on both sides in some.
func TestBothSpellings(t *testing.T) {
	lock := "request=\"lock_vg\"\ncmd =\"vgs\"\npid =250\nmode =\"sh\"\nopts =\"none\"\nvg_name =\"vg1\"\n" +
		"vg_lock_type =\"none\"\nvg_lock_args =\"none\"\n"
	r, err := Decode([]byte(lock))
	if err != nil || r.Op != OpLock || r.Kind != VG || r.Cmd != "vgs" || r.PID != 250 || r.Mode != SH || r.VGName != "vg1" {
		t.Errorf("%q is %+v, error %v", lock, r, err)
	}
	if r.Opts != "" || r.Options != 0 || r.Type != NoType || r.VGArgs != "" {
		t.Errorf("none is not absence: %+v", r)
	}
	r, err = Decode([]byte("request = \"info\"\n"))
	if err != nil || r.Op != OpDumpInfo {
		t.Errorf("info is %+v, error %v", r, err)
	}
	if got, want := string(Request{Name: "info"}.Append(nil, Dialect40)), "request = \"info\"\n\n##\n"; got != want {
		t.Errorf("info is sent as %q, want %q", got, want)
	}
	quoted := Request{Name: "drop_vg", Cmd: "lvmlockctl", PID: 9, VGName: `a"b\c`}
	want := "request=\"drop_vg\"\ncmd =\"lvmlockctl\"\npid =9\nvg_name =\"a\\\"b\\\\c\"\n\n##\n"
	if got := string(quoted.Append(nil, Dialect16)); got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	if r, err := Decode([]byte(strings.TrimSuffix(want, terminator))); err != nil || r.VGName != quoted.VGName {
		t.Errorf("%q comes back as %q, error %v", quoted.VGName, r.VGName, err)
	}
}

func TestAbsence(t *testing.T) {
	r, err := Decode([]byte(`request="lock_lv"`))
	if err != nil {
		t.Fatal(err)
	}
	want := Request{Name: "lock_lv", Op: OpLock, Kind: LV, Mode: Invalid, MaxRetries: defaultRetries}
	if r != want {
		t.Errorf("an empty lock_lv is\n%+v, want\n%+v", r, want)
	}
	// A string where a number belongs is none, and the other way round.
	r, err = Decode([]byte(`request="start_vg" pid ="5" host_id ="3" vg_name =12 vg_lock_type =1 mode =2`))
	if err != nil || r.PID != 0 || r.HostID != 0 || r.VGName != "" || r.Type != NoType || r.Mode != Invalid {
		t.Errorf("values of other kinds are taken: %+v, error %v", r, err)
	}
	// Of equal keys the first counts.
	r, err = Decode([]byte(`request="lock_vg" vg_name="a" vg_name="b" request="quit"`))
	if err != nil || r.Op != OpLock || r.VGName != "a" {
		t.Errorf("not the first of two: %+v, error %v", r, err)
	}
	if r, err := Decode([]byte(`request="nosuch" x=1`)); err != nil || r.Op != 0 || r.Name != "nosuch" {
		t.Errorf("a name that nobody knows: %+v, error %v", r, err)
	}
}

func TestBounds(t *testing.T) {
	long := strings.Repeat("x", 100)
	r, err := Decode([]byte(`request="lock_lv" cmd="` + long + `" vg_name="` + long + `" lv_uuid="` + long +
		`" lv_lock_args="` + long + `" path="` + strings.Repeat(long, 50) + `" max_retries=100000 pid=99999999999`))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{r.Cmd, r.LVUUID, r.LVArgs} {
		if len(s) != 64 {
			t.Errorf("%d bytes of a name were kept, want 64", len(s))
		}
	}
	// LVM has names of that length.
	if r.VGName != long {
		t.Errorf("%d bytes of the VG's name were kept, want 100", len(r.VGName))
	}
	if r, err := Decode([]byte(`request="lock_lv" lv_name="` + long + long + `"`)); err != nil || len(r.LVName) != 127 {
		t.Errorf("%d bytes of an LV's name were kept, want 127, error %v", len(r.LVName), err)
	}
	if len(r.Path) != maxPath || r.MaxRetries != maxRetries || r.PID != 1<<31-1 {
		t.Errorf("path of %d bytes, %d retries, pid %d", len(r.Path), r.MaxRetries, r.PID)
	}
	if r, err := Decode([]byte(`request="lock_vg" max_retries=-5`)); err != nil || r.MaxRetries != 0 {
		t.Errorf("-5 retries are %d, error %v", r.MaxRetries, err)
	}
}

// TestOptions is trap T8: a word counts wherever it stands.
func TestOptions(t *testing.T) {
	for opts, want := range map[string]Flags{
		"": 0, "none": 0, "start_init": 0,
		"persistent": Persistent, "persistent,": Persistent, "persistent,adopt_only": Persistent | AdoptOnly,
		"adopt": Adopt, "adopt_only": AdoptOnly, "adopt_onlyrepair": AdoptOnly | Repair,
		"nodelay,adopt_only,repair": NoDelay | AdoptOnly | Repair, "nodelay,adopt,": NoDelay | Adopt,
		"wait": Wait, "nowait": Wait, "wait force ": Wait | Force, "unlock_cancel": UnlockCancel,
		"next_version": NextVersion, "enable": Enable, "disable": Disable, "ex_disable": ExDisable | Disable,
	} {
		got := ParseOpts(opts)
		if got != want {
			t.Errorf("opts %q are %#x, want %#x", opts, uint32(got), uint32(want))
		}
		if again := ParseOpts(got.Opts()); again != got {
			t.Errorf("opts %q: %#x written as %q is %#x", opts, uint32(got), got.Opts(), uint32(again))
		}
	}
	if got := (Persistent | SHExists | LVLock).Opts(); got != "persistent" {
		t.Errorf("flags that are no options are written: %q", got)
	}
}

func TestNames(t *testing.T) {
	for name, k := range requests {
		if strings.HasPrefix(k.op.String(), "op_") {
			t.Errorf("%s: op %d has no name", name, k.op)
		}
		_, long := keysOf[name]
		if simple := k.op == OpHello || k.op == OpQuit || k.op == OpDumpInfo || k.op == OpDumpLog; long == simple {
			t.Errorf("%s: has keys: %t", name, long)
		}
	}
	for _, m := range []Mode{UN, NL, SH, EX} {
		if ParseMode(m.String()) != m {
			t.Errorf("mode %v does not come back", m)
		}
	}
	for _, s := range []string{"", "iv", "none", "EX", "exx"} {
		if m := ParseMode(s); m != Invalid {
			t.Errorf("mode %q is %v", s, m)
		}
	}
	for s, want := range map[string]LockType{
		"": NoType, "none": NoType, "dlm": DLM, "sanlock": Sanlock, "idm": IDM, "clvm": UnknownType,
	} {
		if got := ParseLockType(s); got != want {
			t.Errorf("lock type %q is %d, want %d", s, got, want)
		}
	}
	if got := Op(99).String() + Kind(0).String() + Invalid.String() + UnknownType.String(); got != "op_unknown.ivlm_unknown" {
		t.Errorf("what has no name is %q", got)
	}
}
