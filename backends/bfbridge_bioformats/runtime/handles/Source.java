package bfbridge;

import java.io.IOException;

/** Bytes that can be read at any position, by many threads. */
public interface Source {

  /** Number of bytes. */
  long length() throws IOException;

  /**
   * Reads bytes that are all there.
   *
   * @param position of the first byte
   * @param into where they go
   * @param offset of the first byte in it
   * @param length how many; position + length is at most length()
   */
  void read(long position, byte[] into, int offset, int length) throws IOException;

  /** Releases whatever is held. */
  void close();
}
