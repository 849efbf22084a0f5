package rsync

import "strings"

// fileList is what --files-from with --from0 reads. Without the "./", names that begin with # or ;
// would be taken for comments and dropped.
func fileList(paths []string, suffix string) string {
	var b strings.Builder
	for _, path := range paths {
		b.WriteString("./")
		b.WriteString(path)
		b.WriteString(suffix)
		b.WriteByte(0)
	}
	return b.String()
}

// below reports whether path is dir or below it; both are relative, "." being the top.
func below(path, dir string) bool {
	return dir == "." || path == dir || len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir
}
