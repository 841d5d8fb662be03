// SPDX-License-Identifier: Apache-2.0

package lane

// endState says what has gone each way of a stream on its lane, as this
// end knows. FIN ends one direction, RESET both; each end sends at most one of
// each. A RESET is answered with RESET, so that both ends know that no further
// frame of the stream will come, and the lane can carry the next one.
//
//	                 sent FIN                  got FIN
//	          ┌──────────────── stateOpen ────────────────┐
//	          ▼                                           ▼
//	     stateFinSent ──────────► stateClosed ◄──── stateFinGot
//	          │        got FIN        ▲    sent FIN       │
//	sent RESET│                       │                   │sent RESET
//	          ▼         got FIN/RESET │ got RESET         ▼
//	stateFinSentReset ────────────────┼──────── stateFinGotReset
//	                                  │                   ▲
//	stateOpen ─────► stateReset ──────┤ got RESET         │ got FIN
//	     sent RESET       └───────────┼───────────────────┘
//	                                  │
//	stateOpen, stateFinSent, ─────► stateResetGot
//	stateFinGot          got RESET    (letting go sends the answer)
//
// Refusing a stream sends RESET and leads to stateClosed at once: what its
// dialer still sends is skipped, since the next stream has another number.
type endState uint8

const (
	stateOpen         endState = iota
	stateFinSent               // the other direction goes on
	stateFinGot                // this end's direction goes on
	stateReset                 // RESET sent, its answer is to come
	stateFinSentReset          // FIN sent, then RESET
	stateFinGotReset           // FIN received, RESET sent, its answer is to come
	stateResetGot              // RESET received, not answered yet
	stateClosed                // no frame of the stream is to come or to be sent
	endStates
)

// endEvent is a frame that came, or something that this end wants to do.
type endEvent uint8

const (
	gotData endEvent = iota
	gotFin
	gotReset
	sendFin
	sendReset
	refuseStream
	letGo
	endEvents
)

// endAction is what an event calls for.
type endAction uint8

const (
	doNothing endAction = iota
	doDeliver           // hand the bytes to the program
	doEnd               // the peer sends no more bytes
	doFail              // the peer reset the stream
	doBreach            // the peer broke the protocol: the lane ends
	doSend              // send the frame of the event; RESET for letGo
	doAbort             // end the lane: frames of this stream could arrive after the next one's opening
)

type endStep struct {
	to endState
	do endAction
}

// endTable has a row for each state and a column for each event.
var endTable = [endStates][endEvents]endStep{
	stateOpen: {
		gotData: {stateOpen, doDeliver}, gotFin: {stateFinGot, doEnd}, gotReset: {stateResetGot, doFail},
		sendFin: {stateFinSent, doSend}, sendReset: {stateReset, doSend}, refuseStream: {stateClosed, doSend}, letGo: {stateOpen, doAbort}},
	stateFinSent: {
		gotData: {stateFinSent, doDeliver}, gotFin: {stateClosed, doEnd}, gotReset: {stateResetGot, doFail},
		sendFin: {stateFinSent, doNothing}, sendReset: {stateFinSentReset, doSend}, refuseStream: {stateClosed, doSend}, letGo: {stateFinSent, doAbort}},
	stateFinGot: {
		gotData: {stateFinGot, doBreach}, gotFin: {stateFinGot, doBreach}, gotReset: {stateResetGot, doFail},
		sendFin: {stateClosed, doSend}, sendReset: {stateFinGotReset, doSend}, refuseStream: {stateClosed, doSend}, letGo: {stateFinGot, doAbort}},
	stateReset: {
		gotData: {stateReset, doNothing}, gotFin: {stateFinGotReset, doNothing}, gotReset: {stateClosed, doFail},
		sendFin: {stateReset, doNothing}, sendReset: {stateReset, doNothing}, refuseStream: {stateClosed, doNothing}, letGo: {stateReset, doAbort}},
	stateFinSentReset: {
		gotData: {stateFinSentReset, doNothing}, gotFin: {stateClosed, doEnd}, gotReset: {stateClosed, doFail},
		sendFin: {stateFinSentReset, doNothing}, sendReset: {stateFinSentReset, doNothing}, refuseStream: {stateClosed, doNothing}, letGo: {stateFinSentReset, doAbort}},
	stateFinGotReset: {
		gotData: {stateFinGotReset, doBreach}, gotFin: {stateFinGotReset, doBreach}, gotReset: {stateClosed, doFail},
		sendFin: {stateFinGotReset, doNothing}, sendReset: {stateFinGotReset, doNothing}, refuseStream: {stateClosed, doNothing}, letGo: {stateFinGotReset, doAbort}},
	stateResetGot: { // nothing is read after RESET
		gotData: {stateResetGot, doBreach}, gotFin: {stateResetGot, doBreach}, gotReset: {stateResetGot, doBreach},
		sendFin: {stateResetGot, doNothing}, sendReset: {stateResetGot, doNothing}, refuseStream: {stateClosed, doSend}, letGo: {stateClosed, doSend}},
	stateClosed: { // the peer may reset until our FIN reaches it
		gotData: {stateClosed, doBreach}, gotFin: {stateClosed, doBreach}, gotReset: {stateClosed, doFail},
		sendFin: {stateClosed, doNothing}, sendReset: {stateClosed, doNothing}, refuseStream: {stateClosed, doNothing}, letGo: {stateClosed, doNothing}},
}

// on moves to the next state and says what is to be done.
func (s *endState) on(e endEvent) endAction {
	step := endTable[*s][e]
	*s = step.to
	return step.do
}
