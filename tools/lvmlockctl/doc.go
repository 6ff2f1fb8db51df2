// Package lvmlockctl is the control program of lvmlockd.
//
// Options, exit codes and the lines that others parse are those of stock (spec lvmlockd 3.11, 3.13, 3.14). Of a daemon
// of ours it also tells who stands in the way of locks that are waited for.
package lvmlockctl
