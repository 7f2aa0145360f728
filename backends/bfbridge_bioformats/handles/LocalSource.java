package bfbridge;

import java.io.EOFException;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.Map;

/** A file on disk. Few are open at once, however many a data set has. */
final class LocalSource implements Source {

  private static final int MOST_OPEN = 32;

  private static final Map<LocalSource, FileChannel> OPEN = new LinkedHashMap<>(16, 0.75f, true);

  private final File file;

  LocalSource(File file) {
    this.file = file;
  }

  @Override
  public long length() {
    return file.length();
  }

  @Override
  public void read(long position, byte[] into, int offset, int length) throws IOException {
    ByteBuffer buffer = ByteBuffer.wrap(into, offset, length);
    synchronized (OPEN) {
      FileChannel channel = OPEN.get(this);
      if (channel == null) {
        if (OPEN.size() >= MOST_OPEN) {
          OPEN.keySet().iterator().next().close();
        }
        channel = FileChannel.open(file.toPath(), StandardOpenOption.READ);
        OPEN.put(this, channel);
      }
      long at = position;
      while (buffer.hasRemaining()) {
        int count = channel.read(buffer, at);
        if (count < 0) {
          throw new EOFException(file + " became shorter while it was read");
        }
        at += count;
      }
    }
  }

  @Override
  public void close() {
    synchronized (OPEN) {
      FileChannel channel = OPEN.remove(this);
      if (channel != null) {
        try {
          channel.close();
        } catch (IOException e) {
          // Nothing was written, so nothing is lost.
          return;
        }
      }
    }
  }
}
