// SPDX-License-Identifier: Apache-2.0

// Package ending is how a stream on a lane ends: its states, and what each frame and
// each wish leads to. It must not send or read anything.
package ending

// State says what has gone each way of a stream on its lane, as this
// end knows. FIN ends one direction, RESET both; each end sends at most one of
// each. A RESET is answered with RESET, so that both ends know that no further
// frame of the stream will come, and the lane can carry the next one.
//
//	                 sent FIN                  got FIN
//	          ┌──────────────── StateOpen ────────────────┐
//	          ▼                                           ▼
//	     StateFinSent ──────────► StateClosed ◄──── StateFinGot
//	          │        got FIN        ▲    sent FIN       │
//	sent RESET│                       │                   │sent RESET
//	          ▼         got FIN/RESET │ got RESET         ▼
//	StateFinSentReset ────────────────┼──────── StateFinGotReset
//	                                  │                   ▲
//	StateOpen ─────► StateReset ──────┤ got RESET         │ got FIN
//	     sent RESET       └───────────┼───────────────────┘
//	                                  │
//	StateOpen, StateFinSent, ─────► StateResetGot
//	StateFinGot          got RESET    (letting go sends the answer)
//
// Refusing a stream sends RESET and leads to StateClosed at once: what its
// dialer still sends is skipped, since the next stream has another number.
type State uint8

const (
	StateOpen         State = iota
	StateFinSent            // the other direction goes on
	StateFinGot             // this end's direction goes on
	StateReset              // RESET sent, its answer is to come
	StateFinSentReset       // FIN sent, then RESET
	StateFinGotReset        // FIN received, RESET sent, its answer is to come
	StateResetGot           // RESET received, not answered yet
	StateClosed             // no frame of the stream is to come or to be sent
	allStates
)

// Event is a frame that came, or something that this end wants to do.
type Event uint8

const (
	GotData Event = iota
	GotFin
	GotReset
	SendFin
	SendReset
	RefuseStream
	LetGo
	allEvents
)

// Action is what an event calls for.
type Action uint8

const (
	DoNothing Action = iota
	DoDeliver        // hand the bytes to the program
	DoEnd            // the peer sends no more bytes
	DoFail           // the peer reset the stream
	DoBreach         // the peer broke the protocol: the lane ends
	DoSend           // send the frame of the event; RESET for LetGo
	DoAbort          // end the lane: frames of this stream could arrive after the next one's opening
)

type step struct {
	to State
	do Action
}

// table has a row for each state and a column for each event.
var table = [allStates][allEvents]step{
	StateOpen: {
		GotData: {StateOpen, DoDeliver}, GotFin: {StateFinGot, DoEnd}, GotReset: {StateResetGot, DoFail},
		SendFin: {StateFinSent, DoSend}, SendReset: {StateReset, DoSend}, RefuseStream: {StateClosed, DoSend}, LetGo: {StateOpen, DoAbort}},
	StateFinSent: {
		GotData: {StateFinSent, DoDeliver}, GotFin: {StateClosed, DoEnd}, GotReset: {StateResetGot, DoFail},
		SendFin: {StateFinSent, DoNothing}, SendReset: {StateFinSentReset, DoSend}, RefuseStream: {StateClosed, DoSend}, LetGo: {StateFinSent, DoAbort}},
	StateFinGot: {
		GotData: {StateFinGot, DoBreach}, GotFin: {StateFinGot, DoBreach}, GotReset: {StateResetGot, DoFail},
		SendFin: {StateClosed, DoSend}, SendReset: {StateFinGotReset, DoSend}, RefuseStream: {StateClosed, DoSend}, LetGo: {StateFinGot, DoAbort}},
	StateReset: {
		GotData: {StateReset, DoNothing}, GotFin: {StateFinGotReset, DoNothing}, GotReset: {StateClosed, DoFail},
		SendFin: {StateReset, DoNothing}, SendReset: {StateReset, DoNothing}, RefuseStream: {StateClosed, DoNothing}, LetGo: {StateReset, DoAbort}},
	StateFinSentReset: {
		GotData: {StateFinSentReset, DoNothing}, GotFin: {StateClosed, DoEnd}, GotReset: {StateClosed, DoFail},
		SendFin: {StateFinSentReset, DoNothing}, SendReset: {StateFinSentReset, DoNothing}, RefuseStream: {StateClosed, DoNothing}, LetGo: {StateFinSentReset, DoAbort}},
	StateFinGotReset: {
		GotData: {StateFinGotReset, DoBreach}, GotFin: {StateFinGotReset, DoBreach}, GotReset: {StateClosed, DoFail},
		SendFin: {StateFinGotReset, DoNothing}, SendReset: {StateFinGotReset, DoNothing}, RefuseStream: {StateClosed, DoNothing}, LetGo: {StateFinGotReset, DoAbort}},
	StateResetGot: { // nothing is read after RESET
		GotData: {StateResetGot, DoBreach}, GotFin: {StateResetGot, DoBreach}, GotReset: {StateResetGot, DoBreach},
		SendFin: {StateResetGot, DoNothing}, SendReset: {StateResetGot, DoNothing}, RefuseStream: {StateClosed, DoSend}, LetGo: {StateClosed, DoSend}},
	StateClosed: { // the peer may reset until our FIN reaches it
		GotData: {StateClosed, DoBreach}, GotFin: {StateClosed, DoBreach}, GotReset: {StateClosed, DoFail},
		SendFin: {StateClosed, DoNothing}, SendReset: {StateClosed, DoNothing}, RefuseStream: {StateClosed, DoNothing}, LetGo: {StateClosed, DoNothing}},
}

// On moves to the next state and says what is to be done.
func (s *State) On(e Event) Action {
	next := table[*s][e]
	*s = next.to
	return next.do
}
