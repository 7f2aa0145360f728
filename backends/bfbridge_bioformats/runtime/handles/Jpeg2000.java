package bfbridge;

import java.awt.image.BufferedImage;
import java.awt.image.Raster;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import loci.common.services.ServiceException;
import ome.codecs.JPEG2000CodecOptions;
import ome.codecs.services.JAIIIOServiceImpl;

/**
 * The JPEG 2000 decoder of every reader, which checks the header of a code stream first: the decoder
 * needs memory and time for any number of tiles and pixels that it declares (ITU-T T.800, A.5.1).
 */
public final class Jpeg2000 extends JAIIIOServiceImpl {

  /** Null, or the reason why the decoder gives wrong pixels: it is patched before its first use. */
  private static final String FAULT = Repairs.jpeg2000();

  private static final int START = 0xff4fff51;
  private static final int MOST_TILES = 65_535;
  private static final int MOST_COMPONENTS = 16_384;

  /** Most pixels for each byte of the code stream: areas of one colour need few bytes. */
  private static final long MOST_PIXELS_PER_BYTE = 20_000;
  private static final long FEW_PIXELS = 1 << 24;

  @Override
  public BufferedImage readImage(InputStream in, JPEG2000CodecOptions options)
      throws IOException, ServiceException {
    return super.readImage(checked(in), options);
  }

  @Override
  public BufferedImage readImage(InputStream in) throws IOException, ServiceException {
    return super.readImage(checked(in));
  }

  @Override
  public Raster readRaster(InputStream in, JPEG2000CodecOptions options)
      throws IOException, ServiceException {
    return super.readRaster(checked(in), options);
  }

  @Override
  public Raster readRaster(InputStream in) throws IOException, ServiceException {
    return super.readRaster(checked(in));
  }

  private static InputStream checked(InputStream in) throws IOException {
    if (FAULT != null) {
      throw new IllegalStateException("the JPEG 2000 decoder of this Java process has a fault that makes"
          + " pixels wrong, and could not be patched (" + FAULT + "). Read the file in a new process"
          + " in which bfbridge starts Java, or with isolated=True");
    }
    byte[] stream = in.readAllBytes();
    int start = start(stream);
    if (start >= 0 && start + 42 <= stream.length) {
      check(ByteBuffer.wrap(stream, start + 8, stream.length - start - 8), stream.length);
    }
    return new ByteArrayInputStream(stream);
  }

  /** Returns the start of the code stream, which may follow boxes; -1 if there is none. */
  private static int start(byte[] stream) {
    int seen = 0;
    for (int i = 0; i < stream.length; i++) {
      seen = (seen << 8) | (stream[i] & 0xff);
      if (seen == START) {
        return i - 3;
      }
    }
    return -1;
  }

  /** Checks the values after the capabilities in the marker segment SIZ. */
  private static void check(ByteBuffer header, int length) {
    long width = size(header);
    long height = size(header);
    long left = size(header);
    long top = size(header);
    long tileWidth = size(header);
    long tileHeight = size(header);
    long tilesLeft = size(header);
    long tilesTop = size(header);
    int components = header.getShort() & 0xffff;
    if (tileWidth < 1 || tileHeight < 1 || components < 1 || components > MOST_COMPONENTS) {
      throw new IllegalArgumentException("a JPEG 2000 stream has no tiles, or an invalid number of components");
    }
    long columns = -Math.floorDiv(-(width - tilesLeft), tileWidth);
    long rows = -Math.floorDiv(-(height - tilesTop), tileHeight);
    if (columns < 1 || rows < 1 || columns > MOST_TILES || rows > MOST_TILES / columns) {
      throw new IllegalArgumentException(
          "a JPEG 2000 stream cannot have " + columns + " x " + rows + " tiles");
    }
    long pixels = (width - left) * (height - top);
    if (width <= left || height <= top || pixels < 0
        || pixels > FEW_PIXELS + MOST_PIXELS_PER_BYTE * length) {
      throw new IllegalArgumentException("a JPEG 2000 stream of " + length + " bytes cannot contain "
          + (width - left) + " x " + (height - top) + " pixels");
    }
  }

  private static long size(ByteBuffer header) {
    return header.getInt() & 0xffffffffL;
  }
}
