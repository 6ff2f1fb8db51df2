package sanlockwire

// The commands (spec sanlock-daemon 1.7).
const (
	CmdRegister uint32 = iota + 1
	CmdAddLockspace
	CmdRemLockspace
	CmdShutdown
	CmdStatus
	CmdLogDump
	CmdAcquire
	CmdRelease
	CmdInquire
	CmdRestrict
	CmdRequest
	CmdAlign
	CmdExamineLockspace
	CmdExamineResource
	CmdHostStatus
	CmdInqLockspace
	CmdKillpath
	CmdWriteLockspace
	CmdWriteResource
	CmdReadLockspace
	CmdReadResource
	CmdGetLockspaces
	CmdGetHosts
	CmdReadResourceOwners
	CmdSetLVB
	CmdGetLVB
	CmdConvert
	CmdVersion
	CmdShutdownWait
	CmdRegEvent
	CmdEndEvent
	CmdSetEvent
	CmdSetConfig
	CmdRenewal
	CmdFormatRindex
	CmdUpdateRindex
	CmdLookupRindex
	CmdCreateResource
	CmdDeleteResource
	CmdRebuildRindex
)

// Rule says what the body of a request is made of.
type Rule uint8

// The rules. Only those from OneResource on depend on what the header or the body says.
const (
	NoBody            Rule = iota
	OneDisk                // a Disk
	OneLockspace           // a Lockspace
	LockspaceEvent         // a Lockspace and a HostEvent
	NamedResource          // a Resource without its disks, whatever its NumDisks says
	Paths                  // a Killpath
	OneRindex              // a Rindex
	RindexEntry            // a Rindex and an REntry
	OneResource            // a Resource and its disks
	AcquireResources       // Data times a resource and its disks, then Options
	ReleaseResources       // Data resources without disks: at least 2 with RENAME, 1 with ORPHAN
	ResourceWithValue      // a Resource without disks, then the rest of Length: the only body that Length rules
)

// Command is one row of the table of commands.
type Command struct {
	Number uint32
	Name   string // as the config file's debug_cmd and the log spell it
	Body   Rule
	// Understates: stock's client leaves the body out of the header's length.
	Understates bool
	// Targeted: Data2 names the registered process that the command is about, or Self (spec 1.8).
	Targeted bool
	// Silent: there is no reply, and one would be taken for the answer of the next request.
	Silent bool
}

// commands is the table, by number; row 0 is no command.
var commands = [...]Command{
	CmdRegister:           {Name: "register", Silent: true},
	CmdAddLockspace:       {Name: "add_lockspace", Body: OneLockspace},
	CmdRemLockspace:       {Name: "rem_lockspace", Body: OneLockspace},
	CmdShutdown:           {Name: "shutdown", Silent: true},
	CmdStatus:             {Name: "status"},
	CmdLogDump:            {Name: "log_dump"},
	CmdAcquire:            {Name: "acquire", Body: AcquireResources, Targeted: true},
	CmdRelease:            {Name: "release", Body: ReleaseResources, Targeted: true},
	CmdInquire:            {Name: "inquire", Targeted: true},
	CmdRestrict:           {Name: "restrict"},
	CmdRequest:            {Name: "request", Body: OneResource},
	CmdAlign:              {Name: "align", Body: OneDisk},
	CmdExamineLockspace:   {Name: "examine_lockspace", Body: OneLockspace},
	CmdExamineResource:    {Name: "examine_resource", Body: NamedResource},
	CmdHostStatus:         {Name: "host_status", Body: OneLockspace, Understates: true},
	CmdInqLockspace:       {Name: "inq_lockspace", Body: OneLockspace},
	CmdKillpath:           {Name: "killpath", Body: Paths, Targeted: true},
	CmdWriteLockspace:     {Name: "write_lockspace", Body: OneLockspace},
	CmdWriteResource:      {Name: "write_resource", Body: OneResource},
	CmdReadLockspace:      {Name: "read_lockspace", Body: OneLockspace},
	CmdReadResource:       {Name: "read_resource", Body: OneResource},
	CmdGetLockspaces:      {Name: "get_lockspaces"},
	CmdGetHosts:           {Name: "get_hosts", Body: OneLockspace},
	CmdReadResourceOwners: {Name: "read_resource_owners", Body: OneResource},
	CmdSetLVB:             {Name: "set_lvb", Body: ResourceWithValue},
	CmdGetLVB:             {Name: "get_lvb", Body: NamedResource},
	CmdConvert:            {Name: "convert", Body: NamedResource, Targeted: true},
	CmdVersion:            {Name: "version"},
	CmdShutdownWait:       {Name: "shutdown_wait"},
	CmdRegEvent:           {Name: "reg_event", Body: LockspaceEvent},
	CmdEndEvent:           {Name: "end_event", Body: OneLockspace},
	CmdSetEvent:           {Name: "set_event", Body: LockspaceEvent},
	CmdSetConfig:          {Name: "set_config", Body: OneLockspace},
	CmdRenewal:            {Name: "renewal", Body: OneLockspace, Understates: true},
	CmdFormatRindex:       {Name: "format_rindex", Body: OneRindex},
	CmdUpdateRindex:       {Name: "update_rindex", Body: RindexEntry},
	CmdLookupRindex:       {Name: "lookup_rindex", Body: RindexEntry},
	CmdCreateResource:     {Name: "create_resource", Body: RindexEntry},
	CmdDeleteResource:     {Name: "delete_resource", Body: RindexEntry},
	CmdRebuildRindex:      {Name: "rebuild_rindex", Body: OneRindex},
}

// CommandOf returns the command of a number, and whether there is one.
func CommandOf(n uint32) (Command, bool) {
	if n == 0 || n >= uint32(len(commands)) {
		return Command{}, false
	}
	c := commands[n]
	c.Number = n
	return c, true
}

// CommandNamed returns the command of a name in lower case, and whether there is one.
func CommandNamed(name string) (Command, bool) {
	for n := range uint32(len(commands)) {
		if c, ok := CommandOf(n); ok && c.Name == name {
			return c, true
		}
	}
	return Command{}, false
}
