package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (w *world) logCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "log RUN|latest",
		Short: "Print the log of a run",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return w.log(args[0]) },
	}
}

func (w *world) log(id string) error {
	list, err := w.list()
	if err != nil {
		return err
	}
	log, err := list.OpenLog(id)
	if err != nil {
		return err
	}
	defer log.Close()
	if _, err := io.Copy(w.stdout, log); err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	return nil
}
