package lvmlock

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// Info is the text of lvmlockctl --info (spec lvmlockd 3.11.4): stock's lines, and for each lock that is
// refused or waited for one line of ours, "info=blocked", that names who stands in the way. Nothing in it has
// a blank but the separators.
func (e *Engine) Info(d lvmwire.Dialect) []byte {
	var b strings.Builder
	b.WriteString("info=structs unused_action_count=0 unused_client_count=0 unused_resource_count=0 " +
		"unused_lock_count=0\n")
	for i, c := range e.listClients() {
		fmt.Fprintf(&b, "info=client pid=%d fd=%d pi=%d id=%d name=%s\n", c.pid, c.fd, i, c.id, word(c.named()))
	}
	for _, s := range e.all() {
		s.do(func() { b.WriteString(s.info(d)) })
	}
	return []byte(b.String())
}

// listClients returns the clients in the order in which they came.
func (e *Engine) listClients() []*Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*Client, 0, len(e.clients))
	for _, c := range e.clients {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *Client) int { return cmp.Compare(a.id, b.id) })
	return all
}

// info is a lockspace's part.
func (s *space) info(d lvmwire.Dialect) string {
	var b strings.Builder
	vg := s.vg.Name
	if s.global {
		vg = ""
	}
	fmt.Fprintf(&b, "info=ls ls_name=%s vg_name=%s vg_uuid=%s ", word(s.name), word(vg), word(s.vg.UUID))
	if d == lvmwire.Dialect16 {
		b.WriteString("vg_sysid=. ")
	}
	fmt.Fprintf(&b, "vg_args=%s lm_type=%s host_id=%d ", word(s.vg.Args), s.typ, s.vg.HostID)
	if d != lvmwire.Dialect16 {
		fmt.Fprintf(&b, "generation=%d ", s.generation)
	}
	fmt.Fprintf(&b, "create_fail=0 create_done=%d thread_work=%d thread_stop=%d thread_done=0 kill_vg=%d ",
		bit(s.state != starting), bit(s.calls > 0), bit(s.state == stopping), bit(s.killed))
	if d == lvmwire.Dialect16 {
		b.WriteString("drop_vg=0 ")
	} else {
		b.WriteString("fence_pr=0 no_timeout=0 ")
	}
	fmt.Fprintf(&b, "sanlock_gl_enabled=%d\n", bit(s.now().enabled))
	for _, p := range s.parked {
		b.WriteString(action("ls_action", p.req, p.client.id, s.typ, d))
	}
	for _, l := range s.sorted() {
		s.infoLane(&b, l, d)
	}
	s.infoRefusals(&b)
	return b.String()
}

// sorted returns the lanes: the VG's, the global lock's, those of LVs.
func (s *space) sorted() []*lane {
	all := make([]*lane, 0, len(s.lanes))
	for _, l := range s.lanes {
		all = append(all, l)
	}
	rank := map[lvmwire.Kind]int{lvmwire.VG: 0, lvmwire.GL: 1, lvmwire.LV: 2}
	slices.SortFunc(all, func(a, b *lane) int {
		return cmp.Or(cmp.Compare(rank[a.key.kind], rank[b.key.kind]), cmp.Compare(a.key.name, b.key.name))
	})
	return all
}

// infoLane is a resource's part.
func (s *space) infoLane(b *strings.Builder, l *lane, d lvmwire.Dialect) {
	holders := l.locks.Holders()
	shared := 0
	for _, h := range holders {
		if h.Mode == lvmwire.SH {
			shared++
		}
	}
	fmt.Fprintf(b, "info=r name=%s type=%s mode=%s sh_count=%d version=%d\n", word(l.key.name), l.key.kind,
		l.locks.Mode(), shared, l.locks.Version())
	for _, h := range holders {
		fmt.Fprintf(b, "info=lk mode=%s version=%d flags=0x%x client_id=%d\n", h.Mode, h.Version,
			bit(h.Persistent), h.Client)
	}
	waiting := l.locks.Waiting()
	for _, a := range waiting {
		if p := l.waiters[a]; p != nil {
			b.WriteString(action("r_action", p.req, a.Client, s.typ, d))
		}
	}
	for _, a := range waiting {
		s.infoWaiting(b, l, a, holders)
	}
}

// action is the line of a request that is not answered yet.
func action(what string, req lvmwire.Request, c ClientID, t lvmwire.LockType, d lvmwire.Dialect) string {
	line := fmt.Sprintf("info=%s client_id=%d flags=0x%x version=%d op=%s rt=%s mode=%s lm_type=%s "+
		"result=0 lm_rv=0", what, c, uint32(req.Options), req.Version, req.Op, req.Kind, req.Mode, t)
	if d != lvmwire.Dialect16 {
		line += " owner_host_id=0 owner_generation=0"
	}
	return line + "\n"
}

// infoWaiting tells which process of this host a request waits for. Other hosts are told of by infoRefusals.
func (s *space) infoWaiting(b *strings.Builder, l *lane, a *Ask, holders []Holder) {
	if _, refused := s.refusals[l.key]; refused || len(holders) == 0 {
		return
	}
	h := holders[0]
	pid, cmd := 0, ""
	s.engine.mu.Lock()
	c := s.engine.clients[h.Client]
	s.engine.mu.Unlock()
	if c != nil {
		pid, cmd = c.pid, c.named()
	}
	fmt.Fprintf(b, "info=blocked ls_name=%s name=%s type=%s mode=%s "+
		"client_id=%d by=local pid=%d cmd=%s holds=%s\n",
		word(s.name), word(l.key.name), l.key.kind, a.Mode, a.Client, pid, word(cmd), h.Mode)
}

// infoRefusals tells which other hosts stand in the way.
func (s *space) infoRefusals(b *strings.Builder) {
	keys := make([]laneKey, 0, len(s.refusals))
	for key := range s.refusals {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(x, y laneKey) int { return cmp.Compare(x.name, y.name) })
	now := time.Now()
	for _, key := range keys {
		r := s.refusals[key]
		if now.Sub(r.at) > refusalKept {
			delete(s.refusals, key)
			continue
		}
		o := r.said.Owner
		fmt.Fprintf(b, "info=blocked ls_name=%s name=%s type=%s mode=%s "+
			"by=host result=%d owner_host_id=%d owner_name=%s "+
			"owner_generation=%d owner_state=%s free_in_s=%d refused=%d ago_s=%d\n",
			word(s.name), word(key.name), key.kind, r.mode, r.said.Result, o.HostID, word(o.Name),
			o.Generation, word(o.State), r.seconds(now), r.count, now.Sub(r.at)/time.Second)
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
