package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"

	"github.com/tenurelock/tenure/tools/rig/wire"
)

// qmp is the connection to QEMU's monitor: commands, and the events between their answers.
type qmp struct {
	conn  net.Conn
	event func(name string, data json.RawMessage)

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan qmpMessage
	gone    bool
}

// qmpMessage is anything QEMU sends: an answer (Return or Error), an event, or its greeting.
type qmpMessage struct {
	ID     uint64          `json:"id"`
	Return json.RawMessage `json:"return"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

// serve reads until QEMU is gone.
func (q *qmp) serve() {
	err := wire.Read(q.conn, func(m qmpMessage) {
		if m.Event != "" {
			q.event(m.Event, m.Data)
			return
		}
		q.mu.Lock()
		answer := q.pending[m.ID]
		delete(q.pending, m.ID)
		q.mu.Unlock()
		if answer != nil {
			answer <- m
		}
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gone = true
	for id, answer := range q.pending {
		delete(q.pending, id)
		m := qmpMessage{}
		m.Error = &struct {
			Desc string `json:"desc"`
		}{fmt.Sprintf("QEMU is gone (%v)", err)}
		answer <- m
	}
}

// ask sends one command and waits for its answer. A frozen QEMU does not answer: bound ctx.
func (q *qmp) ask(ctx context.Context, command string, arguments map[string]any) (json.RawMessage, error) {
	answer := make(chan qmpMessage, 1)
	q.mu.Lock()
	if q.gone {
		q.mu.Unlock()
		return nil, fmt.Errorf("monitor command %s: QEMU is gone", command)
	}
	q.next++
	id := q.next
	q.pending[id] = answer
	q.mu.Unlock()
	request := map[string]any{"execute": command, "id": id}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := wire.Write(q.conn, request); err != nil {
		return nil, fmt.Errorf("monitor command %s: %w", command, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return nil, fmt.Errorf("monitor command %s: %s", command, m.Error.Desc)
		}
		return m.Return, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("monitor command %s: no answer: %w", command, ctx.Err())
	}
}
