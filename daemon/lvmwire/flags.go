package lvmwire

import "strings"

// option is a word that opts may contain, in the order in which clients write them.
type option struct {
	word string
	flag Flags
}

// options of spec lvmlockd 2.4.1 but for "adopt", which "adopt_only" contains.
var options = []option{
	{"persistent", Persistent},
	{"unlock_cancel", UnlockCancel},
	{"next_version", NextVersion},
	{"wait", Wait},
	{"force", Force},
	{"ex_disable", ExDisable},
	{"enable", Enable},
	{"disable", Disable},
	{"nodelay", NoDelay},
	{"adopt_only", AdoptOnly},
	{"repair", Repair},
}

// ParseOpts reads an opts string as stock does: a word counts wherever it stands, inside of another too, because
// commands write some of them without a separator.
func ParseOpts(s string) Flags {
	var f Flags
	for _, o := range options {
		if strings.Contains(s, o.word) {
			f |= o.flag
		}
	}
	if f&AdoptOnly == 0 && strings.Contains(s, "adopt") {
		f |= Adopt
	}
	return f
}

// Opts is an opts string that ParseOpts turns into the same flags, those that are no options left out; "none" if
// nothing remains.
func (f Flags) Opts() string {
	var words []string
	for _, o := range options {
		if f&o.flag != 0 && (o.flag != Disable || f&ExDisable == 0) {
			words = append(words, o.word)
		}
	}
	if f&Adopt != 0 && f&AdoptOnly == 0 {
		words = append(words, "adopt")
	}
	if words == nil {
		return none
	}
	return strings.Join(words, ",")
}
