// Package sanlockwire is the sanlock socket protocol: headers, one table of commands, result codes.
//
// It is the only place that knows the numbers of sanlock 3.8: what a client of stock's library sends, byte
// for byte, what it expects back, and which number stands for which reason. It opens no socket; reading a
// request takes any io.Reader, and how much to read follows from the command, never from what the header
// says of its own length, which lies in several commands (spec sanlock-daemon 1.6).
package sanlockwire
