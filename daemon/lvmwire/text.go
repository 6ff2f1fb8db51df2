package lvmwire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// none is how an absent string is written.
const none = "none"

// maxDepth is how many sections may lie in one another. LVM sends none at all.
const maxDepth = 64

// SyntaxError says where a message stops being one.
type SyntaxError struct {
	Offset int    // of the byte, from 0
	Want   string // "a value"
}

// Error prints "byte 17: expected a value".
func (e *SyntaxError) Error() string { return fmt.Sprintf("byte %d: expected %s", e.Offset, e.Want) }

// field is a value; exactly one of its kinds holds. A section or a float is neither.
type field struct {
	text     string
	number   int64
	isText   bool
	isNumber bool
}

// fields are a message's values by key, of equal keys the first.
type fields map[string]field

// str returns a string, "" if there is none, it is of another kind or "none".
func (f fields) str(key string) string {
	if v := f[key]; v.text != none {
		return v.text
	}
	return ""
}

// num returns an integer, or other if there is none or it is of another kind.
func (f fields) num(key string, other int64) int64 {
	if v := f[key]; v.isNumber {
		return v.number
	}
	return other
}

// scanner reads dm_config text (spec lvmlockd 1.3).
type scanner struct {
	text  string
	at    int
	depth int
	found fields
}

// parseText reads a message. Sections are understood and left out.
func parseText(body []byte) (fields, error) {
	text := string(body)
	if i := strings.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	s := &scanner{text: text, found: fields{}}
	for {
		s.skip()
		switch c := s.peek(); {
		case c == 0 && s.depth == 0:
			return s.found, nil
		case c == '}' && s.depth > 0:
			s.at++
			s.depth--
		default:
			if err := s.entry(); err != nil {
				return nil, err
			}
		}
	}
}

// entry reads "key = value", or "key {", whose content parseText goes on with.
func (s *scanner) entry() error {
	key, err := s.key()
	if err != nil {
		return err
	}
	s.skip()
	switch s.peek() {
	case '{':
		s.at++
		s.depth++
		if s.depth > maxDepth {
			return s.expected("less depth")
		}
		s.keep(key, field{}, s.depth-1)
		return nil
	case '=':
		s.at++
	default:
		return s.expected("= or {")
	}
	v, err := s.value()
	if err == nil {
		s.keep(key, v, s.depth)
	}
	return err
}

// keep stores the first value of a key. A key with a slash is one inside of a section.
func (s *scanner) keep(key string, v field, depth int) {
	if depth > 0 {
		return
	}
	section, _, inside := strings.Cut(key, "/")
	if inside {
		key, v = section, field{}
	}
	if _, ok := s.found[key]; !ok {
		s.found[key] = v
	}
}

func (s *scanner) key() (string, error) {
	if c := s.peek(); c == '"' || c == '\'' {
		k, err := s.quoted()
		if err == nil && k == "" {
			err = s.expected("a key")
		}
		return k, err
	}
	// Where a list would be, it is one.
	if c := s.peek(); c == '[' || c == ']' || c == ',' {
		return "", s.expected("a key")
	}
	return s.word(isWord)
}

// value reads a simple value, or a list, of which only the first counts.
func (s *scanner) value() (field, error) {
	s.skip()
	if s.peek() != '[' {
		return s.simple(isWord)
	}
	s.at++
	var first field
	for n := 0; ; n++ {
		s.skip()
		if s.peek() == ']' {
			s.at++
			return first, nil
		}
		v, err := s.simple(func(c byte) bool { return isWord(c) && c != ',' && c != ']' })
		if err != nil {
			return field{}, err
		}
		if n == 0 {
			first = v
		}
		s.skip()
		switch s.peek() {
		case ',':
			s.at++
		case ']':
		default:
			return field{}, s.expected(", or ]")
		}
	}
}

func (s *scanner) simple(part func(byte) bool) (field, error) {
	switch c := s.peek(); {
	case c == '"' || c == '\'':
		text, err := s.quoted()
		return field{text: text, isText: true}, err
	case c == '+' || c == '-' || c == '.' || isDigit(c):
		return s.number()
	case c == '[' || c == ']' || c == ',':
		return field{}, s.expected("a value")
	default:
		text, err := s.word(part)
		return field{text: text, isText: true}, err
	}
}

// number reads an integer in base 8 or 10, or a number with a point, which no key wants.
func (s *scanner) number() (field, error) {
	start := s.at
	point := s.peek() == '.'
	for s.at++; isDigit(s.peek()) || s.peek() == '.' && !point; s.at++ {
		point = point || s.peek() == '.'
	}
	if point {
		return field{}, nil
	}
	n, err := strconv.ParseInt(s.text[start:s.at], 0, 64)
	if errors.Is(err, strconv.ErrRange) {
		s.at = start
		return field{}, s.expected("an integer of 64 bits")
	}
	// A sign alone is 0, and so are digits that base 8 does not have.
	return field{number: n, isNumber: true}, nil
}

// quoted reads a string in single quotes as it stands, or one in double quotes with \" and \\ in it.
func (s *scanner) quoted() (string, error) {
	quote := s.text[s.at]
	start := s.at
	var out strings.Builder
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == quote:
			s.at++
			return out.String(), nil
		case c == '\\' && quote == '"' && s.at+1 < len(s.text):
			s.at++
			if next := s.text[s.at]; next != '"' && next != '\\' {
				out.WriteByte(c)
			}
			out.WriteByte(s.text[s.at])
		default:
			out.WriteByte(c)
		}
	}
	s.at = start
	return "", s.expected("the end of a string")
}

func (s *scanner) word(part func(byte) bool) (string, error) {
	start := s.at
	for s.at < len(s.text) && part(s.text[s.at]) {
		s.at++
	}
	if s.at == start {
		return "", s.expected("a word")
	}
	return s.text[start:s.at], nil
}

// skip passes over blanks and comments.
func (s *scanner) skip() {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '#':
			n := strings.IndexByte(s.text[s.at:], '\n')
			if n < 0 {
				n = len(s.text) - s.at
			}
			s.at += n
		case isBlank(c):
			s.at++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.at >= len(s.text) {
		return 0
	}
	return s.text[s.at]
}

func (s *scanner) expected(what string) error { return &SyntaxError{Offset: s.at, Want: what} }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// isWord reports whether c may stand in a key or in a value without quotes.
func isWord(c byte) bool { return !isBlank(c) && c != '#' && c != '=' && c != '{' && c != '}' }
