package main

import "context"

// ready measures the start of a watcher.
func (b *bench) ready(ctx context.Context) error {
	watches, err := b.watches()
	if err != nil {
		return err
	}
	c := contest{task: "watcher ready"}
	for _, w := range watches {
		c.contenders = append(c.contenders, contender{w.name, func(ctx context.Context) (reading, error) {
			running, err := w.begin(ctx)
			if err != nil {
				return reading{}, err
			}
			return running.reading, running.stop(ctx)
		}})
	}
	s, err := c.hold(ctx, b.dir, b.rounds)
	fanotify, inotify, peers := s[0], s[1], s[2:]
	for _, peer := range peers {
		b.rows = append(b.rows, row{"watcher ready, s", fanotify, peer, seconds, limit{value: 0.1}})
		b.rows = append(b.rows, row{"watcher ready, s", inotify, peer, seconds, limit{}})
	}
	for _, peer := range peers {
		b.rows = append(b.rows, row{"memory when ready, MB", fanotify, peer, resident, limit{}})
		b.rows = append(b.rows, row{"memory when ready, MB", inotify, peer, resident, limit{}})
	}
	return err
}
