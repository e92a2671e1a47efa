package sim

import (
	"math"
	"time"
)

// Load is what a node sees at a moment. Rates are in flows a second, lives in
// seconds.
type Load struct {
	TCP, TCPLife float64 // connections, and how long they last on average
	Any, AnyLife float64 // conversations over other protocols
	OneWay       float64 // what stays embryonic: queries, and floods
	Cut          float64 // share of all conversations that end in a second besides
	Backends     float64 // entries that the services need
}

// Trace is a course of loads on a machine.
type Trace struct {
	Name   string // a word, also of its picture
	About  string
	Main   string // the table that it is about
	Memory uint64 // of the machine, in bytes
	Length time.Duration
	// Load gives the load at a time in seconds. A life is never 0.
	Load func(second float64) Load
	// Flood says that the table of embryonic flows is overrun in the end: then it
	// evicts, and is not to grow for that.
	Flood bool
	// Fixed keeps every table at the size that it begins with.
	Fixed bool
}

const gib = 1 << 30

// calm is the load of a node on which nothing happens.
func calm() Load {
	return Load{TCP: 400, TCPLife: 180, Any: 300, AnyLife: 90, OneWay: 2000, Backends: 12000}
}

// Traces lists all traces.
func Traces() []Trace {
	return []Trace{
		{
			Name: "steady", Main: TCP, About: "72,000 connections, 2,000 queries a second, for 6 hours",
			Memory: 16 * gib, Length: 6 * time.Hour, Load: func(float64) Load { return calm() },
		},
		{
			Name: "dns-storm", Main: Embryonic, About: "after 30 minutes 50,000 queries a second instead of 2,000, for 20 minutes, within 20 s",
			Memory: 16 * gib, Length: 2 * time.Hour, Load: dnsStorm,
		},
		{
			Name: "syn-flood", Main: Embryonic, About: "after 30 minutes 300,000 SYNs a second from forged addresses, at once, for 20 minutes",
			Memory: 16 * gib, Length: 2 * time.Hour, Load: synFlood, Flood: true,
		},
		{
			Name: "diurnal", Main: TCP, About: "a day: 36,000 connections at night, 720,000 at noon",
			Memory: 64 * gib, Length: 24 * time.Hour, Load: diurnal,
		},
		{
			Name: "deploy-wave", Main: TCP, About: "six deployments within two hours: 15 s of 20,000 new connections a second each, and more backends",
			Memory: 16 * gib, Length: 4 * time.Hour, Load: deployWave,
		},
		{
			Name: "node-drain", Main: TCP, About: "another node is drained and its 120,000 connections come here within 30 s; later this one is, and then filled again",
			Memory: 16 * gib, Length: 4 * time.Hour, Load: nodeDrain,
		},
	}
}

// ramp goes from 0 to 1 between two seconds.
func ramp(second, from, to float64) float64 { return min(max((second-from)/(to-from), 0), 1) }

const minute = 60.0

func dnsStorm(s float64) Load {
	l := calm()
	l.OneWay += 48000 * (ramp(s, 30*minute, 30*minute+20) - ramp(s, 50*minute, 50*minute+20))
	return l
}

func synFlood(s float64) Load {
	l := calm()
	if s >= 30*minute && s < 50*minute {
		l.OneWay += 300000
	}
	return l
}

func diurnal(s float64) Load {
	day := (1 - math.Cos(2*math.Pi*s/(24*60*minute))) / 2
	l := calm()
	l.TCP, l.Any, l.OneWay = 200+3800*day, 150+1500*day, 1000+9000*day
	return l
}

// deployWave: each deployment makes clients connect again, and long-lived ones
// stay until the next wave takes their servers away.
func deployWave(s float64) Load {
	l := calm()
	const first, apart = 20 * minute, 20 * minute
	for wave := range 6 {
		begin := first + float64(wave)*apart
		if s >= begin {
			l.Backends += 9000 * ramp(s, begin, begin+minute)
		}
		if s >= begin && s < begin+15 {
			l.TCP = 20000
		}
	}
	return l
}

func nodeDrain(s float64) Load {
	l := calm()
	more := ramp(s, 30*minute, 30*minute+30)
	l.TCP += 667 * more // keeps what came
	switch {
	case s >= 30*minute && s < 30*minute+30:
		l.TCP = 4000
	case s >= 90*minute && s < 92*minute: // this node is drained
		l.TCP, l.Any, l.OneWay, l.Cut = 50, 20, 200, 0.05
	case s >= 92*minute && s < 150*minute:
		l.TCP, l.Any, l.OneWay, l.Backends = 5, 5, 50, 12000
	case s >= 150*minute && s < 151*minute: // and gets its pods back
		l.TCP, l.Any = 3000, 450
	}
	return l
}
