// SPDX-License-Identifier: Apache-2.0

package api

import "context"

// Backend is the daemon behind the server: one method per command. Names in
// requests are folded and checked, limits are kept; everything else is the
// Backend's to judge. An error that isn't an *Error or a *policy.Refusal
// reaches the CLI as an error with exit status 2. Methods are called
// concurrently, and ctx ends when the caller goes away.
type Backend interface {
	Status(ctx context.Context) (*Status, error)
	Resolve(ctx context.Context, name string) (*Resolution, error)
	// Confirm makes a start with --confirm permanent.
	Confirm(ctx context.Context, r ConfirmRequest) (*ConfirmResult, error)
	// Flows lists the records after a number, and the live connections.
	Flows(ctx context.Context, after uint64) (*FlowList, error)

	Nodes(ctx context.Context) ([]Node, error)
	Node(ctx context.Context, name Name) (*Node, error)
	GrantNode(ctx context.Context, r GrantRequest) (*NodeResult, error)
	RevokeNode(ctx context.Context, r RevokeRequest) (*NodeResult, error)
	CreateToken(ctx context.Context, r TokenRequest) (*Token, error)

	Services(ctx context.Context) ([]Service, error)
	Service(ctx context.Context, name Name) (*Service, error)
	Register(ctx context.Context, r Registration) (*RegisterResult, error)
	Deregister(ctx context.Context, r Deregistration) (*DeregisterResult, error)
	// Run moves the peer of ctx (PeerFrom) into the workload's cgroup.
	Run(ctx context.Context, r RunRequest) (*RunResult, error)

	Intentions(ctx context.Context) (*IntentionList, error)
	ChangeIntention(ctx context.Context, r IntentionChange) (*ChangeResult, error)
	// CheckIntention and ExplainIntention take exact names, never "*".
	CheckIntention(ctx context.Context, source, destination Name) (*Verdict, error)
	ExplainIntention(ctx context.Context, source, destination Name) (*Explanation, error)
}
