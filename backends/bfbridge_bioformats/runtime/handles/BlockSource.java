package bfbridge;

import java.io.EOFException;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.Map;

/** A file that is fetched in blocks; the most recently used ones are cached. */
public final class BlockSource implements Source {

  /** Fetches bytes of the file. */
  public interface Fetcher {
    /** Number of bytes; called once. */
    long length();

    /** Returns exactly these bytes. */
    byte[] fetch(long position, int length);
  }

  private final int block;
  private final Fetcher fetcher;
  private final Map<Long, byte[]> kept;
  private volatile long length = -1;

  /**
   * @param fetcher fetches them
   * @param block number of bytes in a block
   * @param most maximum number of blocks in memory
   */
  public BlockSource(Fetcher fetcher, int block, int most) {
    this.block = block;
    this.fetcher = fetcher;
    kept = new LinkedHashMap<>(16, 0.75f, true) {
      private static final long serialVersionUID = 1L;

      @Override
      protected boolean removeEldestEntry(Map.Entry<Long, byte[]> eldest) {
        return size() > most;
      }
    };
  }

  @Override
  public long length() {
    if (length < 0) {
      length = fetcher.length();
    }
    return length;
  }

  @Override
  public void read(long position, byte[] into, int offset, int count) throws IOException {
    long at = position;
    long end = position + count;
    while (at < end) {
      long number = at / block;
      byte[] bytes = find(number);
      if (bytes == null) {
        bytes = load(number, (end - 1) / block);
      }
      int from = (int) (at - number * block);
      int size = (int) Math.min(bytes.length - from, end - at);
      System.arraycopy(bytes, from, into, offset + (int) (at - position), size);
      at += size;
    }
  }

  private byte[] find(long number) {
    synchronized (kept) {
      return kept.get(number);
    }
  }

  /** Fetches a block, together with the requested blocks after it that are missing. */
  private byte[] load(long first, long last) throws IOException {
    long stop = first + 1;
    while (stop <= last && (stop - first) * block < (16 << 20) && find(stop) == null) {
      stop++;
    }
    long start = first * block;
    int size = (int) (Math.min(stop * block, length()) - start);
    byte[] fetched = fetcher.fetch(start, size);
    if (fetched == null || fetched.length != size) {
      throw new EOFException("the file ended at a byte below " + (start + size));
    }
    byte[] result = null;
    for (long number = first; number < stop; number++) {
      int from = (int) ((number - first) * block);
      int part = Math.min(block, size - from);
      byte[] bytes = new byte[part];
      System.arraycopy(fetched, from, bytes, 0, part);
      synchronized (kept) {
        kept.put(number, bytes);
      }
      result = result == null ? bytes : result;
    }
    return result;
  }

  @Override
  public void close() {
    synchronized (kept) {
      kept.clear();
    }
  }
}
