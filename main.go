// Rsince brings a target up to date with a source by what was written since the last run.
package main

import (
	"os"

	"rsince/sync/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
