package ezq_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/ezq"
)

func TestPermanent_OfNilErrorIsNil(t *testing.T) {
	t.Parallel()
	require.NoError(t, ezq.Permanent(nil))
	require.NoError(t, ezq.RetryAfter(time.Second, nil))
	require.False(t, ezq.IsPermanent(nil))
	_, ok := ezq.RetryDelay(nil)
	require.False(t, ok)
}

func TestPermanent_IsFoundThroughWrapping(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for _, wrap := range []func(error) error{
		func(err error) error { return err },
		func(err error) error { return fmt.Errorf("charge: %w", err) },
		func(err error) error { return errors.Join(errors.New("other"), err) },
		func(err error) error { return fmt.Errorf("%w, then %w", errors.New("other"), errors.Join(nil, err)) },
		func(err error) error { return &ezq.PanicError{Value: err} },
	} {
		require.False(t, ezq.IsPermanent(wrap(cause)))
		_, ok := ezq.RetryDelay(wrap(cause))
		require.False(t, ok)

		permanent := wrap(ezq.Permanent(cause))
		require.True(t, ezq.IsPermanent(permanent))
		require.ErrorIs(t, permanent, cause)

		later := wrap(ezq.RetryAfter(time.Minute, cause))
		d, ok := ezq.RetryDelay(later)
		require.True(t, ok)
		require.Equal(t, time.Minute, d)
		require.ErrorIs(t, later, cause)
		require.False(t, ezq.IsPermanent(later))
	}
}

func TestPermanent_KeepsErrorText(t *testing.T) {
	t.Parallel()
	require.EqualError(t, ezq.Permanent(errors.New("no such user")), "no such user")
	require.EqualError(t, ezq.RetryAfter(time.Hour, errors.New("quota")), "quota")
}

func TestRetryAfter_OutermostDelayCounts(t *testing.T) {
	t.Parallel()
	inner := ezq.RetryAfter(time.Hour, errors.New("quota"))
	d, _ := ezq.RetryDelay(ezq.RetryAfter(time.Second, inner))
	require.Equal(t, time.Second, d)
	d, _ = ezq.RetryDelay(errors.Join(inner, ezq.RetryAfter(time.Second, errors.New("busy"))))
	require.Equal(t, time.Hour, d)
	d, ok := ezq.RetryDelay(ezq.RetryAfter(-time.Second, errors.New("busy")))
	require.True(t, ok)
	require.Zero(t, d)
}
