package bfbridge;

import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import loci.common.IRandomAccess;

/** A position in a source. Behaves like loci.common.NIOFileHandle at the end of the file. */
final class Handle implements IRandomAccess {

  private static final int WINDOW = 4096;

  /** Most queries without a read between them; more mean an endless loop. */
  private static final int MOST_IDLE = 4_000_000;

  /** Most reads while a file is opened, or a region is read; more mean an endless loop. */
  private static final long MOST_READS = 2_000_000;
  private static final long MOST_READS_PER_BYTE = 64;

  private final Source source;
  private final FileMap map;
  private long position;
  private ByteOrder order = ByteOrder.BIG_ENDIAN;
  private byte[] window;
  private long windowStart;
  private int windowLength;
  private int idle;
  private long reads;
  private int round;

  Handle(Source source, FileMap map) {
    this.source = source;
    this.map = map;
  }

  /** Some readers loop without end at the end of a file. */
  private void countIdle() {
    if (++idle > MOST_IDLE) {
      throw new Endless("the reader loops at one position of the file");
    }
  }

  /** Some loop without end in a file whose structure contains a cycle. */
  private void countRead() throws IOException {
    idle = 0;
    map.read();
    if (round != map.round()) {
      round = map.round();
      reads = 0;
    }
    if (++reads > MOST_READS && (reads - MOST_READS) / MOST_READS_PER_BYTE > source.length()) {
      throw new Endless("the file is read in an endless loop");
    }
  }

  /** Returns the next bytes, in this handle's byte order, and moves the position. */
  private ByteBuffer next(int count) throws IOException {
    if (position < windowStart || position + count > windowStart + windowLength) {
      long left = source.length() - position;
      if (left < count) {
        countIdle();
        map.ended(null);
        throw new EOFException("Attempting to read beyond end of file.");
      }
      if (window == null) {
        window = new byte[WINDOW];
      }
      int size = (int) Math.min(left, WINDOW);
      windowLength = 0;
      source.read(position, window, 0, size);
      windowStart = position;
      windowLength = size;
    }
    countRead();
    ByteBuffer found = ByteBuffer.wrap(window, (int) (position - windowStart), count).order(order);
    position += count;
    return found;
  }

  @Override
  public int read(byte[] b) throws IOException {
    return read(b, 0, b.length);
  }

  @Override
  public int read(byte[] b, int off, int len) throws IOException {
    int size = (int) Math.max(Math.min(len, source.length() - position), -1);
    if (size < len) {
      countIdle();
      map.ended(b);
    }
    if (size < 0) {
      return -1;
    }
    if (size <= WINDOW / 2) {
      if (size > 0) {
        next(size).get(b, off, size);
      }
      return size;
    }
    countRead();
    source.read(position, b, off, size);
    position += size;
    return size;
  }

  @Override
  public int read(ByteBuffer buf) throws IOException {
    return read(buf, 0, buf.capacity());
  }

  @Override
  public int read(ByteBuffer buf, int off, int len) throws IOException {
    byte[] bytes = new byte[len];
    int size = read(bytes, 0, len);
    if (size > 0) {
      buf.position(off);
      buf.put(bytes, 0, size);
    }
    return size;
  }

  @Override
  public void readFully(byte[] b) throws IOException {
    read(b, 0, b.length);
  }

  @Override
  public void readFully(byte[] b, int off, int len) throws IOException {
    read(b, off, len);
  }

  @Override
  public boolean readBoolean() throws IOException {
    return readByte() == 1;
  }

  @Override
  public byte readByte() throws IOException {
    return next(1).get();
  }

  @Override
  public int readUnsignedByte() throws IOException {
    return readByte() & 0xff;
  }

  @Override
  public short readShort() throws IOException {
    return next(2).getShort();
  }

  @Override
  public int readUnsignedShort() throws IOException {
    return readShort() & 0xffff;
  }

  @Override
  public char readChar() throws IOException {
    return next(2).getChar();
  }

  @Override
  public int readInt() throws IOException {
    return next(4).getInt();
  }

  @Override
  public long readLong() throws IOException {
    return next(8).getLong();
  }

  @Override
  public float readFloat() throws IOException {
    return next(4).getFloat();
  }

  @Override
  public double readDouble() throws IOException {
    return next(8).getDouble();
  }

  @Override
  public String readLine() throws IOException {
    StringBuilder line = new StringBuilder();
    boolean any = false;
    while (position < source.length()) {
      any = true;
      char c = (char) readUnsignedByte();
      if (c == '\n') {
        break;
      }
      if (c == '\r') {
        if (position < source.length() && readByte() != '\n') {
          position--;
        }
        break;
      }
      line.append(c);
    }
    return any ? line.toString() : null;
  }

  @Override
  public String readUTF() throws IOException {
    return DataInputStream.readUTF(new DataInputStream(new InputStream() {
      @Override
      public int read() throws IOException {
        return position < source.length() ? readUnsignedByte() : -1;
      }
    }));
  }

  @Override
  public int skipBytes(int n) throws IOException {
    return (int) skipBytes((long) n);
  }

  @Override
  public long skipBytes(long n) throws IOException {
    // May move past the end: NIOFileHandle limits it by the length only.
    countIdle();
    long skipped = n < 1 ? 0 : Math.min(n, source.length());
    position += skipped;
    return skipped;
  }

  @Override
  public void seek(long pos) throws IOException {
    countIdle();
    if (pos < 0) {
      throw new IOException("Attempting to seek to " + pos + ".");
    }
    position = pos;
  }

  @Override
  public long getFilePointer() {
    countIdle();
    return position;
  }

  @Override
  public long length() throws IOException {
    countIdle();
    return source.length();
  }

  @Override
  public boolean exists() {
    return true;
  }

  @Override
  public ByteOrder getOrder() {
    return order;
  }

  @Override
  public void setOrder(ByteOrder newOrder) {
    order = newOrder;
  }

  /** Does nothing: the source belongs to the map. */
  @Override
  public void close() {
    window = null;
    windowLength = 0;
  }

  private static IOException readOnly() {
    return new IOException("This file is open for reading only.");
  }

  @Override
  public void write(ByteBuffer buf) throws IOException {
    throw readOnly();
  }

  @Override
  public void write(ByteBuffer buf, int off, int len) throws IOException {
    throw readOnly();
  }

  @Override
  public void write(int b) throws IOException {
    throw readOnly();
  }

  @Override
  public void write(byte[] b) throws IOException {
    throw readOnly();
  }

  @Override
  public void write(byte[] b, int off, int len) throws IOException {
    throw readOnly();
  }

  @Override
  public void writeBoolean(boolean v) throws IOException {
    throw readOnly();
  }

  @Override
  public void writeByte(int v) throws IOException {
    throw readOnly();
  }

  @Override
  public void writeShort(int v) throws IOException {
    throw readOnly();
  }

  @Override
  public void writeChar(int v) throws IOException {
    throw readOnly();
  }

  @Override
  public void writeInt(int v) throws IOException {
    throw readOnly();
  }

  @Override
  public void writeLong(long v) throws IOException {
    throw readOnly();
  }

  @Override
  public void writeFloat(float v) throws IOException {
    throw readOnly();
  }

  @Override
  public void writeDouble(double v) throws IOException {
    throw readOnly();
  }

  @Override
  public void writeBytes(String s) throws IOException {
    throw readOnly();
  }

  @Override
  public void writeChars(String s) throws IOException {
    throw readOnly();
  }

  @Override
  public void writeUTF(String s) throws IOException {
    throw readOnly();
  }
}
