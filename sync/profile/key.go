package profile

import "slices"

// A key is one that a profile may hold.
type key struct {
	name    string // dotted
	allowed string
	// decode puts a value of the file into the profile. What the value means with others and on this
	// machine is not its concern.
	decode func(p *Profile, value any) error
}

// tables are the first halves of dotted names.
var tables = []string{"watch", "snapshot", "logs", "priority"}

const (
	allowedPatterns = `allowed: a list of rsync's patterns, such as ["*.tmp", "/cache/"]`
	allowedOptions  = `allowed: a list of rsync's options, each with its value in the same string, such as ["-z", "--rsh=ssh -p 2222"]`
)

// keys are all keys, in the order in which they are suggested.
var keys = []key{
	{"source", `allowed: an absolute path on this machine, such as "/home"`,
		func(p *Profile, v any) error { return parse(&p.Source, v, cleanPath) }},
	{"target", `allowed: "/path", "host:/path", "user@host:/path" or "rsync://host/module/path"`,
		func(p *Profile, v any) error { return parse(&p.Target, v, ParseTarget) }},
	{"include", allowedPatterns,
		func(p *Profile, v any) error { return assignList(&p.Include, v) }},
	{"exclude", allowedPatterns,
		func(p *Profile, v any) error { return assignList(&p.Exclude, v) }},
	{"one_file_system", "allowed: true or false",
		func(p *Profile, v any) error { return assign(&p.OneFileSystem, v) }},
	{"engine", `allowed: "auto" or "rsync"`,
		func(p *Profile, v any) error { return assign(&p.Engine, v) }},
	{"rsync_options", allowedOptions,
		func(p *Profile, v any) error { return assignList(&p.RsyncOptions, v) }},
	{"stall", `allowed: a duration of at least a second, such as "10m" or "1h30m"`,
		func(p *Profile, v any) error { return parse(&p.Stall, v, ParseDuration) }},
	{"full_every", `allowed: a duration of at least a second, such as "7d" or "1d12h", or "never"`,
		func(p *Profile, v any) error { return parse(&p.FullEvery, v, parsePeriod) }},
	{"max_delete", `allowed: a number, "25%" of what the target holds, or "none"`,
		func(p *Profile, v any) error { return assignLimit(&p.MaxDelete, v) }},
	{"watch.backend", `allowed: "auto", "fanotify", "inotify" or "none"`,
		func(p *Profile, v any) error { return assign(&p.Watch.Backend, v) }},
	{"snapshot.kind", `allowed: "none"`,
		func(p *Profile, v any) error { return assign(&p.Snapshot.Kind, v) }},
	{"snapshot.size", `allowed: "1%" to "100%" of the origin, or a size with its unit, such as "4GiB"`,
		func(p *Profile, v any) error { return assign(&p.Snapshot.Size, v) }},
	{"logs.keep_runs", "allowed: a number of at least 1",
		func(p *Profile, v any) error { return assignInt(&p.Logs.KeepRuns, v) }},
	{"priority.nice", "allowed: a number from -20 to 19",
		func(p *Profile, v any) error { return assignInt(&p.Priority.Nice, v) }},
	{"priority.io", `allowed: "idle", "best-effort" or "none"`,
		func(p *Profile, v any) error { return assign(&p.Priority.IO, v) }},
}

// keyNamed returns the key with this dotted name; nil: there is none.
func keyNamed(name string) *key {
	i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
	if i < 0 {
		return nil
	}
	return &keys[i]
}
