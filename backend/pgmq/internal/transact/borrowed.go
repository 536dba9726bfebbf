package transact

import "github.com/jackc/pgx/v5/pgtype"

// Borrowed is text in the memory of pgx, until the next row.
type Borrowed []byte

var _ pgtype.BytesScanner = (*Borrowed)(nil)

// ScanBytes implements [pgtype.BytesScanner].
func (b *Borrowed) ScanBytes(text []byte) error {
	*b = text
	return nil
}
