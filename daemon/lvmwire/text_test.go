package lvmwire

import (
	"errors"
	"strings"
	"testing"
)

// bodies are what stock takes for hello, and what it does not. Each was given to lvmlockd 2.03.16.
var bodies = []struct {
	body  string
	hello bool
}{
	{`request="hello"`, true},
	{`request = "hello"` + "\n", true},
	{`request=hello`, true},
	{`request='hello'`, true},
	{`"request"="hello"`, true},
	{`'request'='hello'`, true},
	{`request=["hello"]`, true},
	{`request=["hello","quit"]`, true},
	{"request=\thello", true},
	{"\r\nrequest=\"hello\"\r\n", true},
	{"request=\"hello\"\x0b\x0c", true},
	{"#request=\"quit\"\nrequest=\"hello\"", true},
	{`request="hello"#`, true},
	{"x = # c\n 5 request=\"hello\"", true},
	{"request=\"hello\"\x00garbage{{{", true},
	{`request="hello" x=-5`, true},
	{`request="hello" x=- y=+ z=.`, true},
	{`request="hello" x=+7`, true},
	{`request="hello" x=.5`, true},
	{`request="hello" x=1.`, true},
	{`request="hello" x=12abc=3`, true},
	{"request=\"hello\"\nx=1\n2=3", true},
	{`request="hello" x=[1,2,3]`, true},
	{`request="hello" x=[]`, true},
	{`request="hello" x=[1,]`, true},
	{`x=5request="hello"`, true},
	{`x=""request="hello"`, true},
	{`x=[1]request="hello"`, true},
	{`x{a=1} request="hello"`, true},
	{`x{y{z=1}} request="hello"`, true},
	{`x="a\"b" request="hello"`, true},
	{"x='a\nb' request=\"hello\"", true},
	{`x=a"b" request="hello"`, true},
	{`x=a.b/c-d_e:f request=hello`, true},
	{`x=@a-b+c.d/e:f request=hello`, true},
	{`a[=1 request=hello`, true},
	{`a/b=1 request=hello`, true},
	{"x=\xff \xff=1 request=hello", true},
	{`"a b"=1 request=hello`, true},

	{``, false},
	{`# only`, false},
	{"\x00request=\"hello\"", false},
	{`request=`, false},
	{`request=12`, false},
	{`request=hel"lo"`, false},
	{`request="hel\lo"`, false},
	{`request="hello`, false},
	{`request='hello`, false},
	{`request=@hello`, false},
	{`request = "HELLO"`, false},
	{`=hello`, false},
	{`request hello`, false},
	{`a request="hello"`, false},
	{`a=b=c request="hello"`, false},
	{`a={b=1} request=hello`, false},
	{`request="hello";`, false},
	{`request="hello" x`, false},
	{`request="hello" x=`, false},
	{`request="hello" x=1 2`, false},
	{`request="hello" x=0x1f`, false},
	{`request="hello" x=1.5e`, false},
	{`request="hello" x=1.2.3`, false},
	{`request="hello" x=..`, false},
	{`request="hello" x=[1 2 3]`, false},
	{`request="hello" x=[,]`, false},
	{`request="hello" x=[,1]`, false},
	{`request="hello" x=[1`, false},
	{`x=[1,[2]] request="hello"`, false},
	{`x=-a request=hello`, false},
	{`x=99999999999999999999 request=hello`, false},
	{`x{request="hello"}`, false},
	{`x{a=1 request="hello"`, false},
	{`request{a=1} request="hello"`, false},
	{`request/x=1 request=hello`, false},
	{`} request="hello"`, false},
	{`request="hello" }`, false},
	{`""=1 request=hello`, false},
	{`[=1 request=hello`, false},
	{`,=1 request=hello`, false},
}

func TestTextIsWhatStockTakes(t *testing.T) {
	for _, b := range bodies {
		r, err := Decode([]byte(b.body))
		if got := err == nil && r.Op == OpHello; got != b.hello {
			t.Errorf("%q: taken for hello: %t, stock: %t (error %v)", b.body, got, b.hello, err)
		}
		var s *SyntaxError
		if err != nil && (!errors.As(err, &s) || s.Offset < 0 || s.Offset > len(b.body)) {
			t.Errorf("%q: error %v, want a SyntaxError within the text", b.body, err)
		}
	}
}

func TestDepthIsBounded(t *testing.T) {
	deep := func(n int) []byte {
		return []byte(strings.Repeat("a{", n) + strings.Repeat("}", n) + " request=hello")
	}
	if r, err := Decode(deep(maxDepth)); err != nil || r.Op != OpHello {
		t.Errorf("%d sections in one another: op %v, error %v", maxDepth, r.Op, err)
	}
	if _, err := Decode(deep(maxDepth + 1)); err == nil {
		t.Errorf("%d sections in one another were accepted", maxDepth+1)
	}
}

func TestIntegers(t *testing.T) {
	for text, want := range map[string]int64{
		"7": 7, "-7": -7, "+7": 7, "010": 8, "0": 0, "-": 0, "9223372036854775807": 9223372036854775807,
		"-9223372036854775808": -9223372036854775808, `"7"`: 0, "seven": 0, "7.0": 0,
	} {
		r, err := Decode([]byte(`request="vg_update" version =` + text))
		if err != nil || r.Version != want {
			t.Errorf("version =%s is %d (error %v), want %d", text, r.Version, err, want)
		}
	}
}
