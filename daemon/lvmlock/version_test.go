package lvmlock

import "testing"

// Each row of spec lvmlockd 3.7.4, as a program that keeps copies must see it.
func TestCacheReadsValueBlock(t *testing.T) {
	block := func(n uint32) Value { return Value{Version: n, Set: n != 0} }
	for _, row := range []struct {
		name  string
		cache Cache
		read  Value
		want  Validity
		after Cache
	}{
		{"the same number", Cache{version: 5}, block(5), Validity{}, Cache{version: 5}},
		{"a higher one", Cache{version: 5}, block(7), Validity{true, 7}, Cache{version: 7}},
		{"a lower one", Cache{version: 5}, block(3), Validity{true, 0}, Cache{version: 3}},
		{"first look, nobody wrote", Cache{}, block(0), Validity{true, 0}, Cache{empty: true}},
		{"second look, nobody wrote", Cache{empty: true}, block(0), Validity{true, 0}, Cache{empty: true}},
		{"first look, written", Cache{}, block(4), Validity{true, 4}, Cache{version: 4}},
		{"written since", Cache{empty: true}, block(4), Validity{true, 4}, Cache{version: 4}},
		{"lost", Cache{version: 5}, block(0), Validity{true, 0}, Cache{version: 5, empty: true}},
		{"lost, then the same", Cache{version: 5, empty: true}, block(5), Validity{true, 0}, Cache{version: 5}},
		{"lost, then lower", Cache{version: 5, empty: true}, block(1), Validity{true, 0}, Cache{version: 1}},
		{"lost, then higher", Cache{version: 5, empty: true}, block(6), Validity{true, 6}, Cache{version: 6}},
		{"no block", Cache{version: 5}, Value{Version: 5}, Validity{true, 0}, Cache{version: 5, empty: true}},
	} {
		c := row.cache
		if got := c.Read(row.read); got != row.want {
			t.Errorf("%s: %+v, want %+v", row.name, got, row.want)
		}
		if c != row.after {
			t.Errorf("%s: remembers %+v, want %+v", row.name, c, row.after)
		}
	}
}

func TestCacheWrote(t *testing.T) {
	c := Cache{version: 4, empty: true}
	c.Wrote(Value{Version: 5, Set: true})
	if c.Version() != 5 {
		t.Errorf("the version is %d after 5 was written", c.Version())
	}
	if v := c.Read(Value{Version: 5, Set: true}); v.Changed {
		t.Errorf("what was written here is news: %+v", v)
	}
}

func TestValidityFresh(t *testing.T) {
	for _, row := range []struct {
		v    Validity
		copy uint32
		want bool
	}{
		{Validity{}, 3, true},
		{Validity{}, 0, true},
		{Validity{Changed: true}, 3, false},
		{Validity{Changed: true, Since: 4}, 3, false},
		{Validity{Changed: true, Since: 4}, 4, true},
		{Validity{Changed: true, Since: 4}, 5, true},
		{Validity{Changed: true, Since: 4}, 0, false},
	} {
		if got := row.v.Fresh(row.copy); got != row.want {
			t.Errorf("%+v: a copy of version %d is fresh: %v, want %v", row.v, row.copy, got, row.want)
		}
	}
}
