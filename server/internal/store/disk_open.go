package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The buckets and the keys of the state.
var (
	bucketState   = []byte("state")
	bucketLog     = []byte("log")
	bucketStreams = []byte("streams")
	bucketNames   = []byte("names")
	allBuckets    = [][]byte{bucketState, bucketLog, bucketStreams, bucketNames}

	keyFormat    = []byte("format")
	keyTip       = []byte("tip")
	keyScavenged = []byte("scavenged")
)

const (
	// DiskFile is the name of the file in its folder.
	DiskFile = "eventstore.db"
	// diskFormat is what the file says that it is. Another version is another number.
	diskFormat = "goeventstore log 1"
	// lockTime is how long another process may take to let go of the file.
	lockTime = time.Second
)

// OpenDisk opens the store in a folder, and makes an empty one there, whose first record goes to position start, when the
// folder has none. One process may have it open.
func OpenDisk(folder string, start int64) (*Disk, error) {
	path := filepath.Join(folder, DiskFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createDisk(folder, path, start); err != nil {
			return nil, fmt.Errorf("make a database in %s: %w", folder, err)
		}
		info, err = os.Stat(path)
	}
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 { // it would be taken for a new one
		return nil, fmt.Errorf("%s: %w: it is empty", path, ErrDamaged)
	}
	db, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	d := &Disk{db: db, commit: (*bbolt.Tx).Commit, streams: make(map[headName]*stagedStream)}
	if err := d.load(); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// createDisk makes an empty file. It gets its name when it is whole, so that a file with the name that is not whole has
// been damaged, and only if there is none yet.
func createDisk(folder, path string, start int64) error {
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, DiskFile+".new-*")
	if err != nil {
		return err
	}
	made := f.Name()
	defer func() { _ = os.Remove(made) }()
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openBolt(made)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range allBuckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		if err := tx.Bucket(bucketState).Put(keyFormat, []byte(diskFormat)); err != nil {
			return err
		}
		if err := putScavenged(tx, -1); err != nil {
			return err
		}
		return putTip(tx, Tip{Commit: -1, End: start})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	switch err := os.Link(made, path); {
	case errors.Is(err, fs.ErrExist):
		return nil // somebody else was faster
	case err != nil: // a file system without links
		if err := os.Rename(made, path); err != nil {
			return err
		}
	}
	return syncFolder(folder)
}

// syncFolder makes the names in a folder last, where that can be asked for.
func syncFolder(folder string) error {
	dir, err := os.Open(folder) // #nosec G304 -- it is the caller's
	if err != nil {
		return err
	}
	_ = dir.Sync() // not every system has it
	return dir.Close()
}

// openBolt opens a file of bbolt. One that is damaged may end in a panic there, which would leave the file locked.
func openBolt(path string) (*bbolt.DB, error) {
	var file *os.File
	options := &bbolt.Options{
		Timeout: lockTime, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
		OpenFile: func(name string, flag int, mode fs.FileMode) (opened *os.File, err error) {
			opened, err = os.OpenFile(name, flag, mode) // #nosec G304 -- it is the caller's
			file = opened
			return opened, err
		},
	}
	var db *bbolt.DB
	err := contained(func() (err error) {
		db, err = bbolt.Open(path, 0o600, options)
		return err
	})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("the folder %s is open in another process, or twice in this one", filepath.Dir(path))
	case errors.Is(err, ErrDamaged):
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), file.Close())
	case errors.As(err, new(*fs.PathError)), errors.As(err, new(syscall.Errno)):
		return nil, fmt.Errorf("open %s: %w", path, err)
	default:
		return nil, fmt.Errorf("%s: %w, or is no database of this program: %w", path, ErrDamaged, err)
	}
}

// load reads the state, and looks whether the end of the log is there.
func (d *Disk) load() error {
	var tip Tip
	err := d.read(func(tx *bbolt.Tx) error {
		info, err := os.Stat(d.db.Path())
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("%w: it has %d bytes and should have %d", ErrDamaged, info.Size(), tx.Size())
		}
		if err := checkFormat(tx); err != nil {
			return err
		}
		state := tx.Bucket(bucketState)
		at, scavenged := state.Get(keyTip), state.Get(keyScavenged)
		if len(at) != positionSize || len(scavenged) != 8 {
			return fmt.Errorf("%w: it does not say where the log ends", ErrDamaged)
		}
		p := parsePosition(at)
		tip = Tip{Commit: p.Commit, End: p.Prepare}
		d.scavenged.Store(int64(binary.BigEndian.Uint64(scavenged)))
		return checkEnd(tx, tip)
	})
	d.tip.Store(&tip)
	if err != nil {
		return err
	}
	return d.Rollback()
}

// checkFormat refuses what this program does not know.
func checkFormat(tx *bbolt.Tx) error {
	state := tx.Bucket(bucketState)
	if state == nil || state.Get(keyFormat) == nil {
		return errors.New("this is a file of bbolt, but no database of this program")
	}
	if format := string(state.Get(keyFormat)); format != diskFormat {
		return fmt.Errorf("its format is %q, this program knows %q", format, diskFormat)
	}
	known := 0
	err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		for _, one := range allBuckets {
			if string(one) == string(name) {
				known++
				return nil
			}
		}
		return fmt.Errorf("it has something that this program does not know: %q", name)
	})
	if err == nil && known != len(allBuckets) {
		err = fmt.Errorf("%w: parts of it are missing", ErrDamaged)
	}
	return err
}

// checkEnd looks at the last block, which has what was acknowledged last.
func checkEnd(tx *bbolt.Tx, tip Tip) error {
	k, v := tx.Bucket(bucketLog).Cursor().Last()
	if k == nil {
		return nil
	}
	records, err := openBlock(k, v)
	for len(records) > 0 && err == nil {
		var s stored
		if s, records, err = nextStored(records); err == nil && s.commit >= tip.End {
			err = fmt.Errorf("%w: there is a record behind the end of the log", ErrDamaged)
		}
	}
	return err
}

func putTip(tx *bbolt.Tx, tip Tip) error {
	return tx.Bucket(bucketState).Put(keyTip, positionKey(Position{tip.Commit, tip.End}))
}

func putScavenged(tx *bbolt.Tx, to int64) error {
	return tx.Bucket(bucketState).Put(keyScavenged, binary.BigEndian.AppendUint64(nil, uint64(to)))
}
