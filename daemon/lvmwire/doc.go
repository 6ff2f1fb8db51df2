// Package lvmwire is the text protocol between LVM commands and lvmlockd.
//
// A message is lines of "key = value" and ends with "\n##\n". It has two dialects, that of LVM 2.03.16 and that of
// 2.03.40, which ask and answer a few things that the older does not know; a daemon serves both on one socket.
// Source: spec lvmlockd 1 and 2.
package lvmwire
