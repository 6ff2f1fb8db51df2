package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/watchdog/client"
)

// renewals tells wdmd of lockspaces that are renewed in turn, at the same distance from each other, as if the disks of
// all but one were away at any time. None of them expires. At the end it takes its leave, as after a clean stop.
func renewals(args []string) error {
	flags := flag.NewFlagSet("renewals", flag.ContinueOnError)
	spaces := flags.Int("spaces", 3, "lockspaces")
	every := flags.Duration("every", 12*time.Second, "from one renewal of a lockspace to its next")
	life := flags.Duration("life", 16*time.Second, "from a renewal to the lockspace's end")
	during := flags.Duration("for", 2*time.Minute, "for how long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	clock := monotime.System()
	links := make([]*client.Link, *spaces)
	for i := range links {
		link, err := client.Dial(context.Background(), client.Config{Name: fmt.Sprintf("renewals_LS%d", i)})
		if err != nil {
			return err
		}
		links[i] = link
	}
	renew := func(i int) error {
		now := clock.Now().Seconds()
		if err := links[i].Live(now, now+monotime.Seconds(*life/time.Second)); err != nil {
			return fmt.Errorf("LS%d: %w", i, err)
		}
		fmt.Printf("renewed LS%d at %d\n", i, now)
		return nil
	}
	for i := range links { // all are well
		if err := renew(i); err != nil {
			return err
		}
	}
	began := time.Now()
	for n := 1; time.Since(began) < *during; n++ {
		time.Sleep(time.Until(began.Add(*every / time.Duration(*spaces) * time.Duration(n))))
		if err := renew(n % *spaces); err != nil {
			return err
		}
	}
	for _, link := range links {
		if err := link.Close(); err != nil {
			return err
		}
	}
	fmt.Println("all are gone")
	return nil
}
