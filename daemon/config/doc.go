// Package config reads sanlock.conf by the rules of stock's parser, so that a file in use keeps its meaning.
//
// The parser is forgiving: what it does not understand it passes over, and so does this package, except that
// a value is never taken over from the line before (spec sanlock-daemon 2.16).
package config
