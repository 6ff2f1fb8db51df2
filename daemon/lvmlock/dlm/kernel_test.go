package dlm

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// fakeCluster is the lock managers of several kernels, in memory: NL, PR and EX, orphans, value blocks, conversions.
type fakeCluster struct {
	dir string // configfs, of all hosts at once

	mu     sync.Mutex
	spaces map[string]*fakeSpace
}

type fakeSpace struct {
	resources map[string]*fakeResource
	hosts     map[*fakeHost]bool
}

type fakeResource struct {
	locks []*fakeLock
	value [valueSize]byte
	lost  bool // the value went with a host that held EX
}

type fakeLock struct {
	host       *fakeHost
	dev        *fakeDevice // nil: an orphan
	id         uint32
	name       string
	mode       mode
	persistent bool
}

// fakeHost is one host's kernel.
type fakeHost struct {
	cluster *fakeCluster
	stall   chan struct{} // not nil: writes wait until it is closed, as while the cluster changes

	minors  map[string]int
	next    uint32
	refuse  func(command) error
	twist   func(result []byte) // changes what is read
	version byte                // of the device, 0: ours
	written []command
}

func newFakeCluster(t *testing.T, name string) *fakeCluster {
	t.Helper()
	c := &fakeCluster{dir: t.TempDir(), spaces: map[string]*fakeSpace{}}
	for dir, local := range map[string]string{"comms/1": "0", "comms/7": "1"} {
		c.put(t, dir+"/local", local)
	}
	c.put(t, "cluster_name", name)
	return c
}

func (c *fakeCluster) put(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c *fakeCluster) host() *fakeHost {
	return &fakeHost{cluster: c, minors: map[string]int{}, next: 1}
}

func (h *fakeHost) Control() (Device, error) { return &fakeControl{h}, nil }

func (h *fakeHost) Minor(space string) (int, error) {
	h.cluster.mu.Lock()
	defer h.cluster.mu.Unlock()
	if minor, ok := h.minors[space]; ok {
		return minor, nil
	}
	return 0, fs.ErrNotExist
}

func (h *fakeHost) Open(space string, minor int) (Device, error) {
	h.cluster.mu.Lock()
	defer h.cluster.mu.Unlock()
	if h.minors[space] != minor {
		return nil, fs.ErrNotExist
	}
	return &fakeDevice{host: h, space: space, queue: make(chan []byte, 64), closed: make(chan struct{})}, nil
}

// enter is the start of every write: it waits as the kernel does, and reads the command.
func (h *fakeHost) enter(p []byte) (command, error) {
	h.cluster.mu.Lock()
	stall := h.stall
	h.cluster.mu.Unlock()
	if stall != nil {
		<-stall
	}
	c := decodeCommand(p)
	h.cluster.mu.Lock()
	defer h.cluster.mu.Unlock()
	h.written = append(h.written, c)
	if h.refuse != nil {
		return c, h.refuse(c)
	}
	return c, nil
}

func decodeCommand(p []byte) command {
	le := binary.LittleEndian
	if len(p) < commandSize || le.Uint32(p) != 6 || p[13] != 1 {
		panic("not a command of the 64-bit layout")
	}
	c := command{Verb: verb(p[12])}
	switch c.Verb {
	case verbCreate, verbRemove:
		c.Flags, c.Minor = le.Uint32(p[16:]), le.Uint32(p[20:])
		c.Name = string(p[24 : 24+bytes.IndexByte(p[24:], 0)])
	case verbPurge:
		c.Node, c.PID = le.Uint32(p[16:]), le.Uint32(p[20:])
	default:
		c.Mode, c.Flags, c.Lock = mode(p[16]), le.Uint32(p[20:]), le.Uint32(p[24:])
		c.Cookie = le.Uint64(p[80:])
		copy(c.Value[:], p[88:])
		c.Name = string(p[120 : 120+int(p[17])])
	}
	return c
}

type fakeControl struct{ host *fakeHost }

func (f *fakeControl) Read(p []byte) (int, error) {
	version := f.host.version
	if version == 0 {
		version = 6
	}
	return copy(p, []byte{version, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0}), nil
}

func (f *fakeControl) Close() error { return nil }

func (f *fakeControl) Write(p []byte) (int, error) {
	c, err := f.host.enter(p)
	if err != nil {
		return 0, err
	}
	cl := f.host.cluster
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if c.Verb == verbCreate {
		return f.host.create(c)
	}
	for name, minor := range f.host.minors {
		if minor == int(c.Minor) {
			delete(f.host.minors, name)
			cl.spaces[name].leave(f.host)
			return 0, os.Remove(f.host.member(name))
		}
	}
	return 0, syscall.ENOENT
}

// member is this host's directory in the cluster's.
func (h *fakeHost) member(space string) string {
	return filepath.Join(h.cluster.dir, "spaces", space, "nodes", strconv.FormatUint(uint64(h.key()), 10))
}

func (h *fakeHost) key() uint32 { return uint32(h.minors["host"]) }

func (h *fakeHost) create(c command) (int, error) {
	if _, ok := h.minors[c.Name]; ok {
		return 0, syscall.EEXIST
	}
	s := h.cluster.spaces[c.Name]
	if s == nil {
		s = &fakeSpace{resources: map[string]*fakeResource{}, hosts: map[*fakeHost]bool{}}
		h.cluster.spaces[c.Name] = s
	}
	s.hosts[h] = true
	if h.minors["host"] == 0 {
		entries, _ := os.ReadDir(filepath.Join(h.cluster.dir, "spaces", c.Name, "nodes"))
		h.minors["host"] = 1000 + len(entries)
	}
	h.minors[c.Name] = 100 + len(h.minors)
	return h.minors[c.Name], os.MkdirAll(h.member(c.Name), 0o755)
}

// leave drops what a host has; a value block that it was about to write is lost.
func (s *fakeSpace) leave(h *fakeHost) {
	delete(s.hosts, h)
	for _, r := range s.resources {
		r.locks = slices.DeleteFunc(r.locks, func(l *fakeLock) bool {
			r.lost = r.lost || l.host == h && l.mode == modeEX
			return l.host == h
		})
	}
}

func (r *fakeResource) allows(l *fakeLock, m mode) bool {
	for _, o := range r.locks {
		if o != l && (m == modeEX && o.mode != modeNL || m == modePR && o.mode == modeEX) {
			return false
		}
	}
	return true
}

type fakeDevice struct {
	host   *fakeHost
	space  string
	queue  chan []byte
	closed chan struct{}
	once   sync.Once
}

func (d *fakeDevice) Read(p []byte) (int, error) {
	select {
	case r := <-d.queue:
		return copy(p, r), nil
	case <-d.closed:
		return 0, os.ErrClosed
	}
}

// Close orphans what is persistent and drops the rest.
func (d *fakeDevice) Close() error {
	d.once.Do(func() { close(d.closed) })
	cl := d.host.cluster
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for _, r := range cl.spaces[d.space].resources {
		r.locks = slices.DeleteFunc(r.locks, func(l *fakeLock) bool { return l.dev == d && !l.persistent })
		for _, l := range r.locks {
			if l.dev == d {
				l.dev = nil
			}
		}
	}
	return nil
}

func (d *fakeDevice) Write(p []byte) (int, error) {
	c, err := d.host.enter(p)
	if err != nil {
		return 0, err
	}
	cl := d.host.cluster
	cl.mu.Lock()
	defer cl.mu.Unlock()
	s := cl.spaces[d.space]
	if s == nil || !s.hosts[d.host] {
		return 0, syscall.ENOENT
	}
	switch {
	case c.Verb == verbPurge:
		return d.purge(s, c)
	case c.Verb == verbUnlock:
		return d.free(s, c)
	case c.Flags&flagOrphan != 0:
		return d.adopt(s, c)
	case c.Flags&flagConvert != 0:
		return d.convert(s, c)
	}
	return d.lock(s, c)
}

func (d *fakeDevice) purge(s *fakeSpace, c command) (int, error) {
	if c.Node != 7 {
		return 0, syscall.EINVAL
	}
	for _, r := range s.resources {
		r.locks = slices.DeleteFunc(r.locks, func(l *fakeLock) bool { return l.host == d.host && l.dev == nil })
	}
	return 0, nil
}

func (d *fakeDevice) lock(s *fakeSpace, c command) (int, error) {
	if c.Mode != modeNL || c.Cookie == 0 || c.Name == "" {
		return 0, syscall.EINVAL
	}
	r := s.resources[c.Name]
	if r == nil {
		r = &fakeResource{}
		s.resources[c.Name] = r
	}
	l := &fakeLock{host: d.host, dev: d, id: d.host.next, name: c.Name}
	d.host.next++
	r.locks = append(r.locks, l)
	d.end(c, l, r, granted)
	return int(l.id), nil
}

func (d *fakeDevice) find(s *fakeSpace, id uint32) (*fakeResource, *fakeLock) {
	for _, r := range s.resources {
		for _, l := range r.locks {
			if l.dev == d && l.id == id {
				return r, l
			}
		}
	}
	return nil, nil
}

func (d *fakeDevice) free(s *fakeSpace, c command) (int, error) {
	r, l := d.find(s, c.Lock)
	if l == nil {
		return 0, syscall.ENOENT
	}
	r.locks = slices.DeleteFunc(r.locks, func(o *fakeLock) bool { return o == l })
	d.end(c, l, r, unlocked)
	return 0, nil
}

func (d *fakeDevice) adopt(s *fakeSpace, c command) (int, error) {
	r := s.resources[c.Name]
	err := syscall.ENOENT
	for i := 0; r != nil && i < len(r.locks); i++ {
		l := r.locks[i]
		if l.host != d.host || l.dev != nil {
			continue
		}
		if l.mode == c.Mode {
			l.dev = d
			return int(l.id), nil
		}
		err = syscall.EAGAIN
	}
	return 0, err
}

func (d *fakeDevice) convert(s *fakeSpace, c command) (int, error) {
	r, l := d.find(s, c.Lock)
	if l == nil {
		return 0, syscall.EINVAL
	}
	if !r.allows(l, c.Mode) {
		if c.Flags&flagNoQueue == 0 {
			panic("a conversion that would wait")
		}
		d.end(c, l, r, refused)
		return 0, nil
	}
	if l.mode == modeEX && c.Flags&flagValue != 0 && c.Mode != modeEX {
		r.value, r.lost = c.Value, false
		c.Flags &^= flagValue
	}
	l.mode, l.persistent = c.Mode, c.Flags&flagPersistent != 0
	d.end(c, l, r, granted)
	return 0, nil
}

// end queues the result.
func (d *fakeDevice) end(c command, l *fakeLock, r *fakeResource, s status) {
	p := make([]byte, resultSize, resultSize+valueSize)
	le := binary.LittleEndian
	p[0] = 6
	le.PutUint64(p[32:], c.Cookie)
	le.PutUint32(p[40:], uint32(s))
	le.PutUint32(p[44:], l.id)
	if c.Flags&flagValue != 0 {
		le.PutUint32(p[68:], resultSize)
		p = append(p, r.value[:]...)
		if r.lost {
			p[48] = invalidated
		}
	}
	le.PutUint32(p[12:], uint32(len(p)))
	if d.host.twist != nil {
		d.host.twist(p)
	}
	d.queue <- p
}

// holds says who holds a resource, in which mode, for the failing test: "1:PR orphan:EX".
func (c *fakeCluster) holds(space, name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	s := c.spaces[space]
	if s == nil || s.resources[name] == nil {
		return ""
	}
	for _, l := range s.resources[name].locks {
		who := strconv.Itoa(int(l.host.key() - 1000))
		if l.dev == nil {
			who = "orphan"
		}
		all = append(all, who+":"+l.mode.String())
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
