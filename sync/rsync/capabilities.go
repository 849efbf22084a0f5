package rsync

import "time"

// Capabilities are what a target keeps and what the rsyncs on both sides can do, as Probe found out.
// In JSON they can be remembered.
type Capabilities struct {
	Xattrs, ACLs        bool
	UserXattrs          bool // of xattrs only those are kept that are named user.*
	Owners, Permissions bool
	Hardlinks, Symlinks bool
	Specials            bool // fifos, sockets
	FoldsNames          bool // names that differ only in case, or in dots at the end, are one
	// TimeGranularity is to what the target rounds times: 1ns, 1µs, 1s, 2s.
	TimeGranularity time.Duration
	// DeleteMissingArgs: this pair deletes listed names that are gone. Some releases abort instead.
	DeleteMissingArgs bool
	// Fsync: this pair knows --fsync (rsync 3.2.4).
	Fsync bool
	// Version and RemoteVersion are empty when not known.
	Version, RemoteVersion string
	// GivenUp says in sentences what the target will not have.
	GivenUp []string
}
