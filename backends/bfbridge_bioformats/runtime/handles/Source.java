package bfbridge;

import java.io.IOException;

/** Bytes that can be read at any position, by many threads. */
public interface Source {

  /** Number of bytes. */
  long length() throws IOException;

  /**
   * Reads bytes, all of which exist.
   *
   * @param position of the first byte
   * @param into the target
   * @param offset of the first byte in it
   * @param length number of bytes; position + length is at most length()
   */
  void read(long position, byte[] into, int offset, int length) throws IOException;

  /** Releases the source. */
  void close();
}
